/** Prints what the parser of AsyncAPI's makers finds wrong in documents: `[[code, path, message], ...]` for each. */

import { readFileSync } from "node:fs";

import { Parser } from "@asyncapi/parser";

const ERROR = 0;

const parser = new Parser();
const found = [];
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf-8"));
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  if (!document && !errors.length) throw new Error(`${file}: no document, and no error`);
  found.push(errors.map(({ code, path, message }) => [code, path.join("."), message]));
}
console.log(JSON.stringify(found));
