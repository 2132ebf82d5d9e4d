// A minimal test runner: runs the tests of a file in order and prints their number.
export const tests = [];

export function test(name, body) {
	tests.push([ name, body ]);
}

export async function finish(cleanUp = () => {}) {
	let passed = 0, failed = 0;
	for (const [ name, body ] of tests)
		try {
			await body();
			passed++;
			console.log(`ok      ${name}`);
		} catch (error) {
			failed++;
			console.log(`FAILED  ${name}\n${error.stack}`);
		}
	await cleanUp();
	console.log(`counted ${passed} ${failed}`);
	process.exit(failed ? 1 : 0);
}

// Polls `condition` every 50 ms until it returns a true value, at most `times` times.
export async function until(what, condition, times = 300) {
	for (let left = times; left; left--) {
		const value = await condition();
		if (value)
			return value;
		await new Promise(resolve => setTimeout(resolve, 50));
	}
	throw new Error(`timeout: ${what}`);
}
