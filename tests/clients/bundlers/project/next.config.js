module.exports = { turbopack: { root: __dirname + "/../.." }, typescript: { ignoreBuildErrors: true } };
