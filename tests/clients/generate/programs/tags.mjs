/** Prints the names of what a file marks as deprecated, by the compiler's own reading of comments. */

const [, , compiler, file] = process.argv;
const { default: ts } = await import(compiler);
const source = ts.createSourceFile(file, ts.sys.readFile(file), ts.ScriptTarget.ES2022, true);
const found = [];
const visit = (node) => {
  const tags = ts.getJSDocTags(node).map((tag) => tag.tagName.text);
  if (tags.length) found.push([node.name?.text, tags]);
  node.forEachChild(visit);
};
visit(source);
console.log(JSON.stringify(found));
