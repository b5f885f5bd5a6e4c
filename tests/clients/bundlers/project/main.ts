import { found } from "./app";

console.log(found);
