() => {
  // Screen readers announce what changes inside a live region; gradio cannot set the attribute.
  const announce = (element) => {
    element.setAttribute("role", "status");
    element.setAttribute("aria-live", "polite");
  };
  // Gradio adds components to the page when it gets to them: at the start, or when a tab opens.
  const silent = ".block.heard:not([aria-live])";
  const announceAll = () => document.querySelectorAll(silent).forEach(announce);
  new MutationObserver(announceAll).observe(document.body, { childList: true, subtree: true });
  announceAll();

  // Generate and Stop replace each other, and keyboard focus follows.
  let byKeyboard = false;
  document.addEventListener("click", (event) => (byKeyboard = event.detail === 0), true);
  const follow = () => {
    const button = document.getElementById("stop") ?? document.getElementById("generate");
    if (byKeyboard && document.activeElement === document.body) button?.focus();
  };
  const actions = document.getElementById("actions");
  if (actions) new MutationObserver(follow).observe(actions, { childList: true, subtree: true });

  // gradio gives each radio button a name of its own; one name makes them a group with arrow keys.
  const group = (chips) => {
    const name = chips.id || "chips";
    chips.querySelectorAll('input[type="radio"]').forEach((radio) => {
      if (radio.name !== name) radio.name = name;
    });
  };
  const groupAll = () => document.querySelectorAll(".chips").forEach(group);
  const named = { childList: true, subtree: true, attributes: true, attributeFilter: ["name"] };
  new MutationObserver(groupAll).observe(document.body, named);
  groupAll();

  // Custom opens the settings; that a greedy text is always the same is worth saying.
  window.followStyle = (style, custom) => {
    const fold = document.querySelector("#settings > button");
    if (style === custom && !fold?.classList.contains("open")) fold?.click();
    return style === "Greedy" ? "<p class='hint'>Always the same text for a prompt.</p>" : "";
  };

  // On a narrow screen the text begins below its bottom: bring it there once, at the first words.
  window.showText = () => {
    if (matchMedia("(min-width: 769px)").matches) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.getElementById("actions")?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  };

  // Copy a passage's text; the button shows that it was copied, and the live region says so.
  window.copyPassage = async (passage, buttonId) => {
    const copied = await copyText((passage ?? []).map((part) => part.token).join(""));
    const button = document.getElementById(buttonId);
    button.dataset.copied = copied ? "Copied" : "Not allowed";
    setTimeout(() => delete button.dataset.copied, 2000);
    return copied ? "<p>Copied.</p>" : "<p>The browser did not allow copying.</p>";
  };

  // What was written stays in this browser, until it is deleted: the prompt and the settings, and the
  // texts on the page. A browser may have no room for it, or not allow it.
  const KEPT = { box: "gpt2-write-box", page: "gpt2-write-page" };
  const store = (name, text) => {
    try {
      if (text) localStorage.setItem(KEPT[name], text);
      else localStorage.removeItem(KEPT[name]);
    } catch {
      console.info("This browser keeps nothing of the page.");
    }
  };
  const stored = (name) => {
    try {
      return localStorage.getItem(KEPT[name]);
    } catch {
      return null;
    }
  };
  let restored = false; // what the page starts with is not to replace what was kept
  window.readKept = () => JSON.stringify({ box: stored("box"), page: stored("page") });
  window.keepFromNow = () => (restored = true);
  window.keepPage = (page) => restored && store("page", page);
  window.keepBox = (prompt, settings) =>
    restored && store("box", JSON.stringify({ prompt, settings }));
  window.forgetKept = () => Object.keys(KEPT).forEach((name) => store(name, ""));

  // The run on the page is in the address, so that a reload or a bookmark comes back to it.
  window.showRun = (kept) => {
    const address = new URL(location.href);
    if (kept?.run) address.searchParams.set("run", kept.run);
    else address.searchParams.delete("run");
    history.replaceState(history.state, "", address);
  };

  // A run goes on while one looks elsewhere: the window's title says how far it is.
  const title = document.title;
  let before = "";
  const tell = () => {
    const bar = document.querySelector("#tune [role=progressbar]");
    const state = document.querySelector("#tune .run-title .pill")?.textContent ?? "";
    const part = bar ? bar.ariaValueNow / Math.max(bar.ariaValueMax, 1) : 0;
    const active = /Preparing|Training|Evaluating|Sampling|Saving/.test(state);
    const words = active ? `${Math.round(100 * part)} % · ` : "";
    if (before && !active && state) document.title = `${state} · ${title}`;
    else if (words !== before) document.title = words + title;
    before = words;
  };
  new MutationObserver(tell).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !before) document.title = title;
  });

  // Save a file that the server has prepared.
  window.saveFile = (file) => {
    if (!file?.url) return;
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name ?? "";
    document.body.append(link);
    link.click();
    link.remove();
  };

  // navigator.clipboard exists only on https and on this machine's own address.
  window.copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      field.style.position = "fixed";
      field.style.opacity = "0";
      document.body.append(field);
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      return copied;
    }
  };
}
