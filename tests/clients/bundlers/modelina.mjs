/** Prints what Modelina makes of a document, in TypeScript: `{name: source, ...}`. */

import { readFileSync } from "node:fs";

import { TypeScriptGenerator } from "@asyncapi/modelina";

const generator = new TypeScriptGenerator({ modelType: "interface" });
const models = await generator.generate(JSON.parse(readFileSync(process.argv[2], "utf-8")));
console.log(JSON.stringify(Object.fromEntries(models.map(({ modelName, result }) => [modelName, result]))));
