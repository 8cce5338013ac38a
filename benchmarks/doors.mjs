// A folder of `--to onnx` in transformers.js: its tokens of a text and 64 greedy ones.
//
//     npm install @huggingface/transformers
//     node doors.mjs FOLDER ["a text"]
//
// The ids are to be those of `python -m gpt2 generate TEXT --temperature 0 --repetition-penalty 1`.
import path from "node:path";
import { AutoModelForCausalLM, AutoTokenizer, env } from "@huggingface/transformers";

const folder = path.resolve(process.argv[2]);
const text = process.argv[3] ?? "Once upon a time there was a little";
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder) + "/";
const name = path.basename(folder);
const tokenizer = await AutoTokenizer.from_pretrained(name);
for (const dtype of ["fp32", "q8"]) {
  const model = await AutoModelForCausalLM.from_pretrained(name, { dtype, device: "cpu" });
  const inputs = tokenizer(text);
  const ids = await model.generate({ ...inputs, max_new_tokens: 64, do_sample: false });
  console.log(JSON.stringify({ dtype, ids: Array.from(ids.data, Number) }));
}
