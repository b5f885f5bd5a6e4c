/** The paths of consumers, built from URL patterns and their parameters. */

/** The value of a parameter of a URL pattern. */
export type PathParameter = string | number;

export type PathParameters = { readonly [name: string]: PathParameter };

const PARAMETER = /\{([^{}]+)\}/g;

/**
 * Return the percent-encoded path for the pattern with exactly these parameters.
 *
 * Throws TypeError if no pattern has exactly these parameters, or if one is neither a string nor a number. Throws
 * RangeError if one is empty, "." or "..", which would lead to another path.
 */
export function pathOf(patterns: readonly string[], parameters: PathParameters = {}): string {
  const given = keyOf(Object.keys(parameters));
  for (const pattern of patterns) {
    if (keyOf([...pattern.matchAll(PARAMETER)].map(([, name]) => String(name))) === given) {
      return pattern.replace(PARAMETER, (_, name: string) => percentEncoded(name, parameters[name]));
    }
  }
  const known = patterns.join(", ");
  throw new TypeError(`no pattern has exactly these parameters: ${given || "none"}; the patterns are ${known}`);
}

function keyOf(names: string[]): string {
  return names.sort().join(", ");
}

function percentEncoded(name: string, value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number") {
    throw new TypeError(`${name} must be a string or a number, not ${value === null ? "null" : typeof value}`);
  }
  const text = String(value);
  if (text === "" || text === "." || text === "..") throw new RangeError(`the path parameter ${name} can't be "${text}"`);
  return encodeURIComponent(text);
}
