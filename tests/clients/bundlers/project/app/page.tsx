"use client";

import { found } from "../app";

export default function Page() {
  return <p>{found}</p>;
}
