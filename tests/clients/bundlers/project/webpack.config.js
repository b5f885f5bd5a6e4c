module.exports = {
  mode: "production",
  target: "node",
  entry: "./main.ts",
  output: { filename: "main.js" },
  module: { rules: [{ test: /\.ts$/, loader: "ts-loader" }] },
  resolve: { extensions: [".ts", ".js"] },
};
