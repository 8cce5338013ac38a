"""What is given for a model folder and is none: what it is, and what can be done."""

from __future__ import annotations

from pathlib import Path

# They can run code when they are opened, so nothing here opens them.
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".7z")
_OTHER_PROGRAMS = (".ggml", ".h5", ".msgpack", ".onnx", ".tflite", ".npz")
_WANTED = "a folder with config.json, model.safetensors and the tokenizer's files"
_SAVE_AGAIN = (
    f"Save the model with the program that made it in Hugging Face's GPT-2 layout, {_WANTED}, and "
    "give that folder; or train it again here: python -m train run"
)


_CONVERT = (
    "Convert it, which runs nothing in it, and give the new folder: python -m gpt2 convert "
    "CHECKPOINT NEW_FOLDER"
)
ABOUT_PICKLE = (
    "a checkpoint of PyTorch as nanoGPT and others write it: a pickle file, which can run code "
    f"when it is opened, so it is not read here. {_CONVERT}"
)


def explain_foreign(path: Path) -> str:
    """A sentence or two about a file or folder, there or not, that is not a model folder."""
    if path.is_file():
        return _explain_file(path)
    if not path.is_dir():
        return f"There is no folder {path}. A model is {_WANTED}."
    names = sorted(item.name for item in path.iterdir())
    pickle = find_pickle(path)
    if "hparams.json" in names or "model.ckpt.index" in names:
        what = f"it is OpenAI's release. Convert it: python -m gpt2 convert {path} NEW_FOLDER"
    elif "adapter_config.json" in names:
        what = "it is an adapter (LoRA) of another model. Merge the two with peft, and give that"
    elif inside := models_inside(path):
        what = f"the model is further in. Give {inside}"
    elif pickle:
        what = f"it has no config.json, only {pickle.name}, {ABOUT_PICKLE}"
    else:
        what = f"it has no config.json. A model is {_WANTED}"
    return f"{path} is not a model folder: {what}."


def models_inside(folder: Path) -> str:
    """The model folders directly in `folder`, "a or b"; empty where there are none."""
    found = sorted(item.parent for item in folder.glob("*/config.json"))
    return " or ".join(map(str, found[:3]))


def _explain_file(path: Path) -> str:
    name = path.name.lower()
    if find_pickle(path):
        return f"{path} is not a model folder: it is {ABOUT_PICKLE}."
    if name.endswith(_ARCHIVES):
        return f"{path} is an archive. Unpack it and give the folder: {_WANTED}."
    if name.endswith(".gguf"):
        return f"{path} holds a model for another program, and is not read here. {_CONVERT}."
    if name.endswith(_OTHER_PROGRAMS):
        return f"{path} holds a model for another program, and is not read here. {_SAVE_AGAIN}."
    if (path.parent / "config.json").is_file():
        return f"{path} is one file of a model. Give its folder: {path.parent}."
    return f"{path} is a file. A model is {_WANTED}."


def find_pickle(path: Path) -> Path | None:
    """A file of pickled weights: the file at `path`, or the first in that folder."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return next((file for file in files if file.name.lower().endswith(_PICKLES)), None)
