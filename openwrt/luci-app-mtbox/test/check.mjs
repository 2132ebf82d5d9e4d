// Runs the tests of a file one after another and counts them.
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

// Waits for something to become true, at most 15 seconds.
export async function until(what, condition) {
	for (let left = 300; left; left--) {
		const value = await condition();
		if (value)
			return value;
		await new Promise(resolve => setTimeout(resolve, 50));
	}
	throw new Error(`never happened: ${what}`);
}
