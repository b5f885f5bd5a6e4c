/** What node:test and node:assert/strict are in a browser: as much of them as the unit tests use. */

type Run = (context: { mock: { method: typeof method } }) => unknown;

interface Options {
  skip?: boolean | string;
}

const tests: [string, Run][] = [];

export function test(name: string, ...rest: [Run] | [Options, Run]): void {
  const [options, run] = rest.length === 2 ? rest : [{}, rest[0]];
  if (!options.skip) tests.push([name, run]);
}

/** Run all tests. Return their number, and the failures. */
export async function runAll(): Promise<{ count: number; failures: string[] }> {
  const failures: string[] = [];
  for (const [name, run] of tests) {
    const restores: (() => void)[] = [];
    const mocked: typeof method = (target, key, replacement) => {
      const before = target[key];
      restores.push(() => (target[key] = before));
      return method(target, key, replacement);
    };
    try {
      await run({ mock: { method: mocked } });
    } catch (error) {
      failures.push(`${name}: ${(error as Error).stack ?? error}`);
    }
    for (const restore of restores) restore();
  }
  return { count: tests.length, failures };
}

function method(target: any, key: string, replacement: (...args: unknown[]) => unknown) {
  const calls: { arguments: unknown[] }[] = [];
  target[key] = (...args: unknown[]) => {
    calls.push({ arguments: args });
    return replacement(...args);
  };
  return { mock: { calls, callCount: () => calls.length } };
}

type Expected = RegExp | (new (...args: any[]) => Error) | ((error: any) => boolean);

function check(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Text by which equal values are equal: keys in their order, maps and undefined included. */
function show(value: unknown): string {
  if (value === undefined) return "undefined";
  if (value instanceof Map) return `Map ${show([...value])}`;
  if (Array.isArray(value)) return `[${value.map(show).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${key}:${show(item)}`).join()}}`;
}

function expect(error: any, expected: Expected | undefined): void {
  if (expected === undefined) return;
  if (expected instanceof RegExp) check(expected.test(String(error)), `${error} is not like ${expected}`);
  else if (expected === Error || expected.prototype instanceof Error) check(error instanceof expected, `${error}`);
  else check((expected as (error: any) => boolean)(error), `${error}`);
}

const assert = {
  ok: (value: unknown, message = "not true") => check(value, message),
  fail: (message = "this should not happen") => check(false, message),
  equal: (actual: unknown, expected: unknown) => check(Object.is(actual, expected), `${actual} is not ${expected}`),
  notEqual: (actual: unknown, expected: unknown) => check(!Object.is(actual, expected), `both are ${expected}`),
  deepEqual: (actual: unknown, expected: unknown) =>
    check(show(actual) === show(expected), `${show(actual)} is not ${show(expected)}`),
  match: (text: string, pattern: RegExp) => check(pattern.test(text), `${text} is not like ${pattern}`),
  throws(run: () => unknown, expected?: Expected) {
    let result: { error: unknown } | null = null;
    try {
      run();
    } catch (error) {
      result = { error };
    }
    check(result, "nothing was thrown");
    expect(result.error, expected);
  },
  async rejects(promise: Promise<unknown>, expected?: Expected) {
    const result = await promise.then(
      () => null,
      (error: unknown) => ({ error }),
    );
    check(result, "nothing was rejected");
    expect(result.error, expected);
  },
};

export default assert;
