"""The Fine-tune tab's parts without a browser: the chart, the cards, the handlers' parsing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from huggingface_hub import constants

import app
from gpt2.errors import UserError
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.temporary import Temporary, temp_part
from gpt2.tokenizer import load_tokenizer
from service.limits import Limits
from service.request import RunRequest
from service.status import CheckpointInfo, Sample
from tests.support.fake_runs import OWNER, RUN, FakeRuns, make_status
from tests.support.hub_server import running_hub
from train.memorization import Memorization
from train.run_folder import Progress
from train.states import RunState
from ui import words
from ui.finetune import run_html, samples_html
from ui.finetune.chart import MAX_CHART_POINTS, loss_chart, nice_ticks, thin_curve
from ui.finetune.controls import PAGE_SETTINGS, changes_of
from ui.finetune.form import preset_rows
from ui.finetune.panel import checkpoint_rows
from ui.finetune.publish import card_facts, check_repository, find_token, publish
from ui.finetune.updates import Shown, possible_actions
from ui.finetune.upload import (
    SAMPLE,
    describe_pasted,
    show_card,
    take_upload,
)
from ui.models import Models
from ui.run_model import RunModel, models_of, run_rows, short_name
from ui.visitor import Visitor

NAMES = [one.name for one in PAGE_SETTINGS]
TOKENIZER = load_tokenizer(STORYTELLER_FOLDER)


def elements(markup: str) -> list[ElementTree.Element]:
    """All elements of well-formed markup; fails for any other."""
    return list(ElementTree.fromstring(f"<all>{markup}</all>").iter())


def dots(markup: str, kind: str) -> list[tuple[float, float]]:
    """The points of a curve, as x and y in the drawing's square of 1000."""
    path = re.search(rf'class="{kind}" d="([^"]*)"', markup)[1]
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


# ---- the chart ------------------------------------------------------------------------------


def test_the_chart_draws_the_points_where_the_axes_say():
    markup = loss_chart([(1, 4.0), (50, 3.0)], [(0, 4.0), (50, 3.5)], steps=100, best=50)
    labels = re.findall(r'class="y" style="top:([\d.]+)%">([\d.]+)<', markup)
    values = {float(value): float(top) * 10 for top, value in labels}
    assert dots(markup, "train") == [(10.0, values[4]), (500.0, values[3])]
    assert dots(markup, "valid")[0] == (0.0, values[4]), "the first point is at step 0"
    assert dots(markup, "best") == [dots(markup, "valid")[1]]
    steps = re.findall(r'class="x" style="left:([\d.]+)%">([\d,]+)<', markup)
    assert all(float(left) == float(step) for left, step in steps)
    assert {"0", "100"} <= {step for _, step in steps}


def test_the_losses_say_how_they_were_measured():
    """So that `evaluate` and `score` can be asked for the same value."""
    shown = run_html.head(make_status(), "Storyteller", "")
    assert "Validation: 96 held-out tokens, window 256, stride 256, float32." in shown
    assert "held-out" not in run_html.head(make_status(measure=""), "Storyteller", "")


def test_the_chart_is_markup_with_a_legend_and_words_for_who_does_not_see_it():
    markup = loss_chart([(1, 4.0), (50, 3.0)], [(0, 4.1), (50, 3.5)], steps=100)
    figure = elements(markup)[1]
    assert figure.get("role") == "img"
    told = figure.get("aria-label")
    assert "Training loss 4.00 at step 1, 3.00 at step 50." in told
    assert "Validation loss 4.10 at step 0, 3.50 at step 50." in told
    text = "".join(figure.itertext())
    for word in ("Loss", "nats per token", "Training", "Validation", "Step"):
        assert word in text
    assert "Best" not in text


@pytest.mark.parametrize("loss", [0.0, 3.0, 1e-9, 1e6])
def test_a_flat_or_extreme_curve_stays_inside_the_drawing(loss):
    markup = loss_chart([(1, loss), (2, loss)], [(0, loss)], steps=2)
    for x, y in dots(markup, "train") + dots(markup, "valid"):
        assert 0 <= x <= 1000
        assert 0 <= y <= 1000


def test_every_label_stands_inside_the_drawing():
    """Ticks were once made anew from the first and the last one, in larger steps: 2.5 ... 5 had a
    label 2 below the drawing."""
    for lowest in (0.1, 1.7, 2.55, 2.8, 3.9):
        markup = loss_chart([(1, lowest)], [(0, 4.75)], steps=20)
        tops = [float(top) for top in re.findall(r'class="y" style="top:([\d.-]+)%', markup)]
        assert (tops[0], tops[-1]) == (100, 0)
        assert sorted(tops, reverse=True) == tops


def test_nothing_measured_is_said_in_words():
    assert "svg" not in loss_chart([], [], steps=100)
    assert "svg" not in loss_chart([(1, float("nan"))], [], steps=100)


@pytest.mark.parametrize("count", [0, 1, 399, 400, 401, 5000])
def test_thinning_keeps_the_ends_the_order_and_the_mean(count):
    points = [(step, float(step % 7)) for step in range(count)]
    thinned = thin_curve(points)
    assert len(thinned) == min(count, MAX_CHART_POINTS)
    assert thinned[:1] == points[:1]
    assert thinned[-1:] == points[-1:]
    assert [step for step, _ in thinned] == sorted({step for step, _ in thinned})
    if count == 5000:
        assert sum(loss for _, loss in thinned) / 400 == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(2.31, 4.9, [2, 3, 4, 5]), (0, 60, [0, 20, 40, 60]), (0, 3, [0, 1, 2, 3])],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert nice_ticks(low, high) == ticks
    for top in (0.013, 7.7, 1234.5):
        made = nice_ticks(0.1 * top, top)
        assert made[0] <= 0.1 * top
        assert made[-1] >= top
        assert 2 <= len(made) <= 7


# ---- the run card ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_has_its_words_and_well_formed_markup(state):
    status = make_status(30, state=state, message="It <b>ended</b> & so.", log_tail="<log>")
    markup = run_html.head(status, "Storyteller <x>", "A verdict.")
    text = "".join(elements(markup)[0].itertext())
    assert run_html.pill(RunState(state)) in text
    assert "It <b>ended</b> & so." in text
    assert "Storyteller <x>" in text
    assert "A verdict." in text
    assert "<log>" in text
    assert run_html.spoken(status)


def test_the_line_of_a_run_says_step_rate_and_what_is_left():
    status = make_status(120, 400, "training", seconds_per_step=1.9, seconds_left=520.0)
    assert run_html.progress_line(status) == "step 120/400, 1.9 s/step, 8m40s left"
    assert run_html.progress_line(make_status(60)) == "step 60/60"
    queued = make_status(0, state="queued", place=3, wait_seconds=130.0)
    assert run_html.progress_line(queued) == "number 3 in the queue, about 2 min"


def test_the_bar_stands_where_the_run_is():
    bar = next(e for e in elements(run_html.head(make_status(15, state="training"), "S", "")) if
               e.get("role") == "progressbar")  # fmt: skip
    assert (bar.get("aria-valuenow"), bar.get("aria-valuemax")) == ("15", "60")
    assert bar[0].get("style") == "width:25.0%"


def test_perplexity_is_that_of_the_last_validation():
    text = "".join(elements(run_html.head(make_status(60), "S", ""))[0].itertext())
    last = make_status(60).progress[-1].validation_loss
    assert f"{2.718281828**last:.1f}" in text
    assert "from 66.7" in text  # e^4.2


def test_screen_readers_hear_of_tenths_not_of_every_step():
    said = {run_html.spoken(make_status(step, 100, "training")) for step in range(100)}
    assert len(said) == 10


def test_what_happened_on_the_way_is_told_once():
    status = make_status(10, state="training")
    oops = Progress(5, None, None, 0.0, None, None, "Out of memory. Going on with 4.")
    status = replace(status, progress=(*status.progress, oops, oops), notes=("Short blocks.",))
    markup = run_html.head(status, "S", "")
    assert markup.count("Going on with 4.") == 1
    assert markup.count("Short blocks.") == 1


@pytest.mark.parametrize(
    ("state", "step", "actions"),
    [
        ("queued", 0, {"discard"}),
        ("training", 30, {"keep_best", "keep_latest", "discard"}),
        ("saving", 60, {"keep_best", "keep_latest", "discard"}),
        ("done", 60, {"discard", "extend"}),
        ("stopped", 30, {"discard", "resume", "extend"}),
        ("failed", 30, {"discard", "resume"}),
        ("interrupted", 30, {"discard", "resume"}),
    ],
)
def test_only_what_can_be_done_is_offered(state, step, actions):
    assert possible_actions(make_status(step, state=state)) == actions


# ---- what it writes -------------------------------------------------------------------------


def test_the_timeline_begins_before_the_training_and_marks_what_is_memorized():
    samples = (Sample(0, " a <i>b</i>"), Sample(20, " by heart, c"))
    markup = samples_html.timeline(samples, "Pro<mpt>", lambda text: [(text, "heart" in text)])
    items = [e for e in elements(markup) if e.tag == "li"]
    assert ["".join(item.itertext()) for item in items] == [
        "BeforePro<mpt> a <i>b</i>",
        "Step 20Pro<mpt> by heart, c",
    ]
    assert items[0].find(".//mark") is None
    mark = items[1].find(".//mark")
    assert mark.text == " by heart, c"
    assert mark.get("title"), "not by color alone"


def test_the_meter_tells_share_and_longest_passage():
    markup = samples_html.meter(Memorization("a <passage>\nof it", 17, 0.143))
    text = "".join(elements(markup)[0].itertext())
    assert "14%" in text
    assert "17 characters: “a <passage> of it”" in text
    assert "No passage" in samples_html.meter(Memorization("", 0, 0.0))
    assert samples_html.meter(None) == ""


def test_the_comparison_has_both_models_and_the_seed():
    markup = samples_html.comparison("P", " <one>", [(" two", True)], "Base", "Mine", 7)
    sections = [e for e in elements(markup) if e.tag == "section"]
    assert ["".join(s.itertext()) for s in sections] == ["BaseP <one>", "MineP two"]
    assert "seed 7" in markup


def test_checkpoints_are_listed_best_first_with_step_loss_and_size():
    points = (CheckpointInfo(20, 3.5, 21e6, False), CheckpointInfo(40, 3.25, 1.5e9, True))
    points += (CheckpointInfo(60, None, 3e3, False),)
    assert checkpoint_rows(points) == [
        ("Step 40 · loss 3.25 · 1.5 GB · best", 40),
        ("Step 60 · 3 kB", 60),
        ("Step 20 · loss 3.50 · 21 MB", 20),
    ]


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (4, "4 s", "a few seconds"),
        (44, "44 s", "about 40 s"),
        (59.7, "1m00s", "about 60 s"),
        (520, "8m40s", "about 9 min"),
        (7500, "2h05m", "about 2.1 h"),
    ],
)
def test_durations(seconds, exact, rough):
    assert (words.duration(seconds), words.about(seconds)) == (exact, rough)


def test_presets_show_their_time_where_it_is_known():
    assert preset_rows()[0] == ("Taste", "taste")
    assert preset_rows({"taste": 42.0})[0] == ("Taste · 40 s", "taste")


# ---- the text -------------------------------------------------------------------------------


def uploaded(name: str, content: bytes) -> Path:
    """A file where gradio puts uploads."""
    folder = Path(get_upload_folder()) / "0123abcd"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_an_upload_leaves_the_folder_that_is_served():
    path = uploaded("diary.TXT", b"Dear diary. " * 200)
    upload = take_upload(str(path), Limits())
    assert not path.exists()
    assert upload.name == "diary.TXT"
    assert upload.path.read_bytes() == b"Dear diary. " * 200
    assert Path(get_upload_folder()) not in upload.path.parents
    assert upload.path.parents[1] == temp_part(Temporary.UPLOADS)
    assert re.fullmatch("[0-9a-f]{32}", upload.path.parent.name)
    if os.name == "posix":
        assert upload.path.parent.stat().st_mode & 0o777 == 0o700
    upload.remove()
    assert not upload.path.parent.exists()


SERVED = get_upload_folder()
NOT_UPLOADED = [None, 5, "", "x\0y", ["a.txt"], "/etc/passwd", "~/a.txt", "http://169.254.169.254/"]
NOT_UPLOADED += [f"{SERVED}/../a.txt", f"{SERVED}/a/../../../../etc/passwd", f"{SERVED}/a.txt"]


@pytest.mark.parametrize("path", NOT_UPLOADED)
def test_only_what_was_uploaded_can_be_taken(path, tmp_path):
    with pytest.raises(UserError, match="Upload"):
        take_upload(path, Limits())
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"\x89PNG\r\n" * 50, r"must be \.txt"),
        ("a.txt", b"", "empty"),
        ("a.txt", b"x" * 2001, "larger"),
        ("a", b"words " * 50, "must be"),
    ],
)
def test_a_refused_upload_is_deleted(name, content, message):
    path = uploaded(name, content)
    with pytest.raises(UserError, match=message):
        take_upload(str(path), Limits(text_bytes=2000))
    assert not path.exists()


def test_a_link_is_no_upload(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret " * 500)
    path = uploaded("other.txt", b"")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(UserError, match="ordinary"):
        take_upload(str(path), Limits())
    assert secret.exists()


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", b"title,body\r\nx,y\r\n", ("title", "body")),
        ("a.jsonl", b'{"text": "x", "n": 1, "note": ""}\n', ("text", "note")),
        ("a.jsonl", b"[1]\n", ()),
        ("a.jsonl", b"{broken\n", ()),
        ("a.csv", b"\x00\x00", ()),
        ("a.txt", b"title,body\n", ()),
    ],
)
def test_tables_offer_their_columns(name, content, columns):
    upload = take_upload(str(uploaded(name, content)), Limits())
    assert upload.columns == columns
    upload.remove()


def test_the_sample_text_has_its_card():
    text = SAMPLE.read_text(encoding="utf-8")
    models = Models()
    found = describe_pasted(text, models.find("storyteller"), models.load("storyteller"), Limits())
    markup = show_card(found.summary, "Pasted <text>")
    shown = "".join(elements(markup)[0].itertext())
    assert f"{len(text):,} characters" in shown
    assert f"{len(TOKENIZER.encode(text)):,} tokens" in shown
    assert "Pasted <text>" in shown
    assert text[:40] in shown, "the first decoded block"


# ---- settings, names, tokens ----------------------------------------------------------------


def test_empty_fields_are_the_presets_and_others_are_changes():
    values = [None] * len(NAMES)
    assert changes_of(tuple(values)) == ()
    values[NAMES.index("steps")], values[NAMES.index("schedule")] = 30, ""
    values[NAMES.index("learning_rate")] = " 1e-4 "
    assert dict(changes_of(tuple(values))) == {"steps": 30, "learning_rate": 1e-4}
    values[NAMES.index("steps")] = "many"
    with pytest.raises(UserError, match="steps must be a whole number from 1 to 100,000"):
        RunRequest("storyteller", text="x", changes=changes_of(tuple(values)))


@pytest.mark.parametrize(
    "value", [None, 5, "x", [], {}, {"owner": "../x", "run": RUN.upper()}, {"owner": [OWNER]}]
)
def test_a_visitor_without_proper_ids_is_nobody(value):
    assert Visitor.parse(value) == Visitor()


def test_a_visitor_gets_an_id_once_and_keeps_it():
    first = Visitor.parse(None).known()
    assert re.fullmatch("[0-9a-f]{32}", first.owner)
    assert Visitor.parse(None).known().owner != first.owner
    assert Visitor.parse(json.loads(json.dumps(first.at(RUN).kept()))).known() == first.at(RUN)


NO_RUNS = [None, 5, RUN, "run:", "run:../../etc", f" run:{RUN}", f"run:{RUN.upper()}"]
NO_RUNS += [f"run:{RUN}@{step}" for step in ("", "x", "1/..", -1, 10**12, "１２")]


@pytest.mark.parametrize("name", NO_RUNS)
def test_only_an_id_names_a_runs_model(name):
    assert RunModel.parse(name) is None


def test_a_runs_model_is_found_by_its_id_and_listed_to_its_owner_alone():
    runs = FakeRuns({RUN: make_status()}, {RUN: OWNER}, STORYTELLER_FOLDER)
    models = Models(runs=runs)
    name = RunModel(RUN).name
    assert RunModel.parse(name) == RunModel(RUN)
    assert models.find(name).title == "storyteller, step 60"
    assert models.find(f"{name}@40").title == "storyteller, step 40"
    assert name in [row for _, row in models.rows(OWNER)]
    for other in (None, RUN, OWNER[::-1]):
        assert not [row for _, row in models.rows(other) if row.startswith("run:")]
    with pytest.raises(UserError):
        models.find(f"run:{RUN[::-1]}")
    assert name not in [choice.name for choice in models.choices]
    with pytest.raises(UserError) as refusal:
        models.find("nonsense")
    assert RUN not in str(refusal.value)


def test_a_model_that_was_trained_further_is_read_again(tmp_path):
    import shutil

    folder = shutil.copytree(STORYTELLER_FOLDER, tmp_path / "model")
    models = Models(runs=FakeRuns({RUN: make_status()}, {RUN: OWNER}, folder))
    first = models.load(f"run:{RUN}")
    assert models.load(f"run:{RUN}") is first
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    import os

    os.utime(weights, (1, 1))
    assert models.load(f"run:{RUN}") is not first


def test_the_list_of_runs_leaves_out_what_has_gone():
    runs = FakeRuns({RUN: make_status()}, {RUN: OWNER, "f" * 32: OWNER})
    assert [run for _, run in run_rows(runs, OWNER)] == [RUN]
    assert run_rows(runs, None) == []
    assert [model.run for model, _ in models_of(runs, OWNER)] == [RUN]


def test_no_folder_of_the_server_is_told():
    assert short_name("/srv/secret/models/tiny") == "tiny"
    assert short_name("user/name") == "name"
    assert Models().title_of("/srv/secret/tiny") == "tiny"
    assert Models().public_name("124M") == "openai-community/gpt2"


@pytest.mark.parametrize("name", ["a", "user/name", " user/na.me-1 "])
def test_repositories(name):
    assert check_repository(name) == name.strip()


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "..", "a/..", "a--b", "-a", None, 5, "a b", "a/b.git"]
)
def test_bad_repositories_are_refused(name):
    with pytest.raises(UserError, match="name"):
        check_repository(name)


def test_on_a_space_only_the_visitors_own_token_counts(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_server")
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert find_token(" hf_typed ", None, True) == "hf_typed"
    assert find_token("", None, True) == "hf_server"
    with pytest.raises(UserError, match="no access token"):
        find_token("", None, False)  # a visitor from elsewhere published in the owner's name
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert find_token("hf_typed", "hf_oauth", False) == "hf_oauth"
    with pytest.raises(UserError, match="Sign in"):
        find_token("hf_typed", None, True)
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="token"):
        find_token(None, None, True)


def test_a_run_is_pushed_with_a_card_and_its_own_folder_is_untouched(monkeypatch):
    """To a Hub in miniature, over real HTTP."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    runs = FakeRuns({RUN: make_status()}, {RUN: OWNER}, STORYTELLER_FOLDER)
    before = (STORYTELLER_FOLDER / "README.md").read_bytes()
    with running_hub(users={"hf_x": "ann"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        address = publish(runs, RUN, 60, "Storyteller", "mine", "hf_x", True)
        repository = hub.repositories["ann/mine"]
    assert address == f"{hub.url}/ann/mine"
    assert repository.private
    files = repository.commits[repository.branches["main"]]
    card = files["README.md"].decode()
    assert {"model.safetensors", "config.json", "vocab.json"} <= set(files)
    assert "# Storyteller, fine-tuned" in card
    assert "hf_x" not in card
    assert (STORYTELLER_FOLDER / "README.md").read_bytes() == before


def test_the_card_says_base_losses_memorization_samples_and_settings(tmp_path):
    status = make_status(config={"steps": 60, "sample_prompt": "Dear", "seed": 3})
    status = replace(status, samples=(Sample(60, " diary\n# no heading"),))
    facts = card_facts(status, "openai-community/gpt2")
    assert facts.base_model == "openai-community/gpt2"
    assert facts.losses.loss == status.best_loss
    assert "4.2000" in facts.losses.data, "the base model's loss stands beside it"
    assert "14.0% of the runs of 8 tokens" in facts.memorization
    assert facts.training["seed"] == 3
    assert [(sample.prompt, sample.text) for sample in facts.samples] == [
        ("Dear", " diary\n# no heading")
    ]
    assert card_facts(status, "Storyteller").base_model is None
    assert card_facts(status, "Storyteller", step=7).losses is None, "not measured there"


# ---- the program ----------------------------------------------------------------------------


def test_runs_live_beside_the_app_and_their_copies_in_a_spaces_bucket(monkeypatch):
    """They lived in /data, which the Hub no longer has; a bucket is no disk to train on."""
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == "/bucket")
    assert app.default_runs_folder() == Path(app.__file__).parent / "runs"
    assert app.parse_arguments([]).mirror is None
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert app.parse_arguments([]).mirror == Path("/bucket")
    assert app.parse_arguments(["--mirror", "elsewhere"]).mirror == Path("elsewhere")
    assert app.parse_arguments(["--runs", "elsewhere"]).runs == Path("elsewhere")


def test_an_order_takes_what_the_fields_give():
    order = RunRequest(
        "storyteller", text="x", changes=changes_of(("10", *[None] * (len(NAMES) - 1)))
    )
    assert order.changes == (("steps", 10),)


def test_a_login_button_is_there_only_where_it_works(monkeypatch):
    from ui.finetune.form import build_form
    from ui.finetune.panel import build_run_panel

    monkeypatch.delenv("SPACE_ID", raising=False)
    with gr.Blocks() as page:
        build_form(Limits())
        build_run_panel()
    kinds = {type(block) for block in page.blocks.values()}
    assert gr.LoginButton not in kinds


# ---- looking at a run -----------------------------------------------------------------------


@pytest.fixture
def look():
    """The timer's handler as the page has it, and the runs that it sees."""
    runs = FakeRuns({RUN: make_status(30, state="training")}, {RUN: OWNER}, STORYTELLER_FOLDER)
    models = Models("storyteller", runs=runs)
    page = app.build_page(models, models.start(), runs, Limits())
    handler = next(fn.fn for fn in page.fns.values() if fn.name == "look")

    def look_at(shown: Shown, run: str = RUN) -> tuple[dict, Shown]:
        changes = handler({"owner": OWNER, "run": run}, shown, "storyteller")
        new = [value for value in changes.values() if isinstance(value, Shown)]
        return {getattr(key, "elem_id", key): value for key, value in changes.items()}, (
            new[0] if new else shown
        )

    return look_at, runs


def test_only_what_has_changed_is_sent(look):
    look_at, runs = look
    first, shown = look_at(Shown())
    assert {"run-head", "run-chart", "timeline", "run-link", "tune-announcer"} <= set(first)
    assert look_at(shown)[0] == {"__type__": "update"}, "nothing"
    runs.statuses[RUN] = make_status(31, state="training")
    changes, shown = look_at(shown)
    assert {"run-head", "run-chart"} <= set(changes)
    assert not {"timeline", "keep-best", "checkpoint", "model"} & set(changes)


def test_the_end_is_said_although_something_was_said_just_before(look, monkeypatch):
    look_at, runs = look
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    _, shown = look_at(Shown())
    runs.statuses[RUN] = make_status(message="It is <done>.")
    changes, shown = look_at(shown)
    assert "tune-announcer" not in changes, "a screen reader is not interrupted"
    now[0] += 5
    changes, shown = look_at(shown)
    assert changes["tune-announcer"] == "<p>Done. It is &lt;done&gt;.</p>"


def test_a_run_that_has_gone_is_said(look):
    look_at, _ = look
    changes, _ = look_at(Shown(), "f" * 32)
    assert "no such run" in changes["tune-blank"].value
