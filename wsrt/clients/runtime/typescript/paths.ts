/** Paths: what leads to a consumer. */

/** What may stand for a parameter of a URL pattern. */
export type PathParameter = string | number;

export type PathParameters = { readonly [name: string]: PathParameter };

const PARAMETER = /\{([^{}]+)\}/g;

/**
 * Return the path of that pattern which has just these parameters, percent-encoded.
 *
 * Throws TypeError where no pattern has just these, and where one is neither text nor a number; RangeError where one
 * would not stand there as itself, for it is empty or a step to another path.
 */
export function pathOf(patterns: readonly string[], parameters: PathParameters = {}): string {
  const given = keyOf(Object.keys(parameters));
  for (const pattern of patterns) {
    if (keyOf([...pattern.matchAll(PARAMETER)].map(([, name]) => String(name))) === given) {
      return pattern.replace(PARAMETER, (_, name: string) => percentEncoded(name, parameters[name]));
    }
  }
  throw new TypeError(`${patterns.join(" or ")} is the pattern, the parameters are: ${given || "none"}`);
}

function keyOf(names: string[]): string {
  return names.sort().join(", ");
}

function percentEncoded(name: string, value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number") {
    throw new TypeError(`${name} is to be text or a number, not ${value === null ? "null" : typeof value}`);
  }
  const text = String(value);
  if (text === "" || text === "." || text === "..") throw new RangeError(`${name} can not be "${text}" in a path`);
  return encodeURIComponent(text);
}
