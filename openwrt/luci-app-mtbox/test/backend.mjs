// Tests the rpcd script under busybox ash, with a running mtbox.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { finish, test, until } from './check.mjs';
import { connect, listenAsTelegram } from './client.mjs';
import { APP, Router, config, freePort } from './router.mjs';

const NASTY = `a"<img src=x>\\ 'é; $(touch hacked) \`id\` %s`;
const dc = await listenAsTelegram();
const port = await freePort();
const temporary = () => fs.readdirSync('/tmp').filter(name => name.startsWith('luci.mtbox.'));
const before = temporary();
const router = new Router(process.argv[2], config(port, dc.address().port,
	{ anna: {}, boris: { enabled: '0' }, odd: { name: NASTY }, dash: { name: '--json' } }));
router.reload();

const hex = name => Buffer.from(name).toString('hex');
async function ask(method, input, env) {
	const { code, out } = await router.backend(method, input, env);
	assert.equal(code, 0, out);
	return JSON.parse(out);
}
await until('mtbox answers', async () => (await ask('stats')).users);

test('list prints the methods and their arguments', () => {
	const script = path.join(APP, 'root/usr/libexec/rpcd/luci.mtbox');
	const listed = JSON.parse(execFileSync('busybox', [ 'ash', script, 'list' ], { encoding: 'utf8' }));
	assert.equal(listed.explain.user, 'hex');
	assert.deepEqual(listed.log, {});
});

test('stats counts a session, and explain reports a wrong clock', async () => {
	const { socket, got } = await connect(port, router.committed.anna.secret, 5000);
	assert(got > 100_000, `${got} bytes received`);
	await until('the traffic is counted', async () => {
		const { users } = await ask('stats');
		const { connections, bytes_in, bytes_out } = users.anna;
		return connections == 1 && bytes_in == 5000 && bytes_out > 100_000;
	});
	socket.destroy();
	await connect(port, router.committed.anna.secret, 100, 900);
	const report = await ask('explain', { user: hex('anna') });
	assert.equal(report.refusals[0].cause, 'clock-off');
	assert((await ask('explain')).users.anna);
});

test('a name can contain any character', async () => {
	for (const name of [ NASTY, '--json' ]) {
		assert.equal((await ask('explain', { user: hex(name) })).user, name);
		const { access } = await ask('links', { user: hex(name) });
		assert.match(access.links[name][0].tg_url, /^tg:\/\/proxy\?/);
		assert.deepEqual(Object.keys(access.links), [ name ]);
	}
	assert(!fs.existsSync('hacked'));
});

test('a disabled user keeps the link', async () => {
	const { access } = await ask('links', { user: hex('boris') });
	assert.equal(access.links.boris[0].ip, '192.0.2.1');
});

test('invalid names are refused before a command runs', async () => {
	const bad = [
		'{"user":"anna"}', '{"user":"61 62"}', '{"user":"6"}', '{"user":"$(id)"}', '{"user":"61\\"; id; \\""}',
		'{"user":"610a"}', '{"user":"1b"}', '{"user":"00"}', '{"user":"617f"}', `{"user":"${'61'.repeat(65)}"}`,
		'{"user":["61"]}', '{"user":""}', '{"user":', Buffer.concat([ Buffer.from('{"user":"'), Buffer.alloc(9000, 0x61) ])
	];
	for (const input of bad)
		for (const method of [ 'links', 'explain' ])
			assert.deepEqual((await ask(method, input)).errors, [ 'the user name is not valid' ], String(input).slice(0, 80));
	assert.deepEqual((await ask('links', {})).errors, [ 'no user name given' ]);
	assert.match((await ask('links', { user: hex('zoe') })).errors[0], /no user is called/);
});

test('an unknown method is refused', async () => {
	for (const method of [ 'user', 'rm', 'list', '$(id)', '../x' ])
		assert.deepEqual(await router.backend(method), { code: 2, out: '' });
});

test('log returns only lines of mtbox, with any content', async () => {
	router.log('level=info "quotes" \\ back\tslash \x1b[31m\u0007 é <b>&');
	fs.appendFileSync(path.join(router.dir, 'log'),
		'Mon Nov 23 20:24:39 2026 daemon.info other[1]: I saw mtbox[1]: today\n' +
		'Mon Nov 23 20:24:39 2026 user.err mtbox: from the init script\n' + 'x'.repeat(5000) + '\n');
	const { lines } = await ask('log');
	assert(lines.some(line => line.endsWith('level=info "quotes" \\ back slash [31m é <b>&')), lines.join('\n'));
	assert(lines.at(-1).endsWith('mtbox: from the init script'));
	assert(!lines.some(line => line.includes('I saw')));
	for (let i = 0; i < 3000; i++)
		router.log(`line ${i} ${'y'.repeat(i == 2999 ? 3000 : 100)}`);
	const many = (await ask('log')).lines;
	assert.equal(many.length, 500);
	assert(many.at(-1).includes('line 2999') && many.at(-1).length <= 1000);
});

test('a command that hangs or writes too much is killed', async () => {
	const bin = path.join(router.dir, 'broken');
	fs.mkdirSync(bin);
	fs.writeFileSync(path.join(bin, 'mtbox'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
	fs.writeFileSync(path.join(bin, 'logread'), '#!/bin/sh\nexec yes\n', { mode: 0o755 });
	const env = { PATH: `${bin}:${process.env.PATH}` };
	assert.deepEqual((await ask('stats', {}, env)).errors, [ 'mtbox did not answer within 5 seconds' ]);
	assert.deepEqual((await ask('log', {}, env)).errors, [ 'the output of logread is too long' ]);
});

test('a call leaves no process behind, however soon its command ends', async () => {
	const env = { MTBOX_TEST: router.dir };
	const answers = await Promise.all(Array.from({ length: 100 }, () => ask('links', { user: hex('anna') }, env)));
	assert(answers.every(answer => answer.access.links.anna.length == 1));
	const isOurs = pid => {
		try {
			return fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`MTBOX_TEST=${router.dir}`);
		} catch {
			return false;
		}
	};
	// Sooner than the time limit of the command, 15 seconds.
	await until('no process is left', () => !fs.readdirSync('/proc').filter(Number).some(isOurs), 100);
});

test('a missing program and an invalid config are reported', async () => {
	const env = { PATH: '/usr/bin:/bin', MTBOX_CONFIG: '/nonexistent' };
	assert.match((await ask('stats', {}, env)).errors[0], /not found/);
	const status = await ask('status');
	assert.deepEqual(status.problems, []);
	assert.match(status.version[0], /^\d+\.\d+\.\d+/);
	fs.appendFileSync(path.join(router.dir, 'config/mtbox'), "\nconfig user 'carl'\n\toption secret 'nonsense'\n");
	assert.match((await ask('status')).problems.join(' '), /carl/);
});

test('the script removes its temporary directory, even when rpcd kills it', async () => {
	const child = spawn('busybox', [ 'ash', path.join(APP, 'root/usr/libexec/rpcd/luci.mtbox'), 'call', 'stats' ],
		{ env: { PATH: `${path.join(router.dir, 'broken')}:${process.env.PATH}` } });
	const added = () => temporary().filter(name => !before.includes(name));
	await until('the directory exists', () => added().length);
	child.kill('SIGTERM');
	await until('the directory is removed', () => !added().length);
});

await finish(() => {
	router.close();
	dc.close();
});
