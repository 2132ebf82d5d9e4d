// The pages in a real browser: the stand-in for LuCI around them, the real script and the real
// program behind them. Clicked through as an owner would.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

import { finish, test, until } from './check.mjs';
import { connect, telegram } from './phone.mjs';
import { Router, config, freePort } from './router.mjs';

const [ , , program, packages, pictures ] = process.argv;
const need = createRequire(packages + '/');
const { chromium } = need('playwright-core');
const jsQR = need('jsqr');

const EVIL = `<img src=x onerror="window.hacked=1">`;
const dc = await telegram();
const port = await freePort();
const router = new Router(program, config(port, dc.address().port, {
	anna: {}, boris: {}, dacha: { enabled: '0' }, evil: { name: EVIL }
}));
router.reload();
const url = await router.serve();

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'luci-mtbox-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
	executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
	headless: true,
	viewport: { width: 1000, height: 640 },
	args: [
		'--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
		'--disable-background-networking', '--disable-component-update', '--disable-sync'
	]
});
const page = await browser.newPage();
page.setDefaultTimeout(15_000);
const faults = [];
page.on('pageerror', error => faults.push(error.stack));
page.on('console', message => message.type() == 'error' && faults.push(message.text()));
const strangers = [];
page.on('request', request => {
	if (!request.url().startsWith(url) && !request.url().startsWith('data:'))
		strangers.push(request.url());
});

async function open(name, query = '') {
	await page.goto(`${url}?pollscale=0.2${query}#admin/services/mtbox/${name}`);
	await page.reload();
	await page.waitForSelector(`body[data-shown$="/${name}"]`);
}
const row = name => page.locator('#mtbox-users tr').filter({ has: page.getByRole('cell', { name, exact: true }) });
const press = (scope, name) => scope.getByRole('button', { name, exact: true }).click();
const dialog = () => page.getByRole('dialog');
const field = name => page.locator(`[data-option="${name}"]`);
const staged = () => router.staged.map(([ method, { type, ...params } ]) => [ method, { ...type && { type }, ...params } ]);

// What a camera sees of the picture in the window.
async function scanned() {
	const { data, width, height } = await dialog().locator('canvas').evaluate(canvas => {
		const { width, height } = canvas;
		return { data: [ ...canvas.getContext('2d').getImageData(0, 0, width, height).data ], width, height };
	});
	return jsQR(new Uint8ClampedArray(data), width, height)?.data;
}

const phones = [];
await until('the program answers', async () => JSON.parse((await router.backend('stats')).out).users);

test('the overview shows a live session, and keeps up with it', async () => {
	await open('overview');
	await page.getByText('running', { exact: true }).waitFor();
	assert.match(await row('anna').innerText(), /^anna\t0\t/);
	phones.push((await connect(port, router.committed.anna.secret, 300_000)).socket);
	await page.waitForFunction(() => /^anna\t1\t29[23](\.\d)?\u00a0KiB\t\d+(\.\d)?\u00a0KiB\tnow\t0 Why\?/.test(
		document.querySelector('tr[data-user="anna"]').innerText));
	phones.pop().destroy();
	await page.waitForFunction(() => /^anna\t0\t/.test(document.querySelector('tr[data-user="anna"]').innerText));
	await page.getByText('switched off').waitFor();
});

test('a link is one click away, and its picture is that very link', async () => {
	await press(row('boris'), 'Link');
	const access = JSON.parse(router.run('access', router.toml, '--user', 'boris'));
	const [ link ] = access.links.boris;
	assert.equal(await dialog().locator('textarea').inputValue(), link.tme_url);
	assert.equal(await dialog().getByText('Open in Telegram').getAttribute('href'), link.tg_url);
	assert.equal(await scanned(), link.tg_url);
	await press(dialog(), 'Copy link');
	await dialog().getByText(/^(Copied|Press Ctrl)/).waitFor();
	await press(dialog(), 'Close');
	await dialog().waitFor({ state: 'detached' });
});

test('refusals are explained', async () => {
	await connect(port, router.committed.boris.secret, 10, 900);
	await page.waitForFunction(() => document.querySelector('tr[data-user="boris"]').innerText.includes('\t1 Why?'));
	await press(row('boris'), 'Why?');
	await dialog().locator('[data-cause="clock-off"]').getByText('the phone is 900 s ahead of this machine').waitFor();
	await press(dialog(), 'Close');
	await connect(port, 'ee' + '00'.repeat(16) + router.committed.boris.secret.slice(34), 10);
	await press(page, 'Who was turned away?');
	await dialog().locator('[data-cause="wrong-key"]').getByText('a hello for our site with a key that is nobody\'s').waitFor();
	await press(dialog(), 'Close');
});

test('a proxy that does not run says why', async () => {
	router.committed.main.enabled = '0';
	router.reload();
	await open('overview');
	await page.getByText('It is switched off.').waitFor();
	router.committed.main.enabled = '1';
	router.committed.evil.secret = 'nonsense';
	await assert.rejects(router.ubus('uci', 'apply', {}));
	await open('overview');
	await page.locator('.alert-message').getByText(/secret/).first().waitFor();
	delete router.committed.evil.secret;
	router.reload();
	await page.getByText('running', { exact: true }).waitFor();
});

test('a mistake that changed nothing is told beside the proxy that goes on', async () => {
	const { secret } = router.committed.evil;
	router.committed.evil.secret = 'nonsense';
	await assert.rejects(router.ubus('uci', 'apply', {}));
	await open('overview');
	await page.getByText(/so it goes on with those before/).waitFor();
	await page.getByText('running', { exact: true }).waitFor();
	router.committed.evil.secret = secret;
	router.reload();
	await open('overview');
	await page.getByText('running', { exact: true }).waitFor();
	assert.equal(await page.locator('.alert-message').count(), 0);
});

test('a user is added, and has a link after Save & Apply', async () => {
	await open('users');
	const name = page.locator('.cbi-section-create-name');
	for (const taken of [ 'anna', 'main' ]) {
		await name.fill(taken);
		await press(page, 'Add user');
		await page.getByText('This name is taken.').last().waitFor();
	}
	await name.fill('no blanks');
	await press(page, 'Add user');
	assert.deepEqual(staged(), []);
	await name.fill('carl');
	await press(page, 'Add user');
	const carl = page.locator('tr[data-sid="carl"]');
	await carl.getByText('made when the changes are applied').waitFor();
	assert(await carl.getByRole('button', { name: 'Link', exact: true }).isDisabled());
	assert.deepEqual(staged(), [ [ 'add', { type: 'user', config: 'mtbox', name: 'carl' } ] ]);
	await press(page, 'Save & Apply');
	await carl.getByText('ready').waitFor();
	assert.match(router.committed.carl.secret, /^ee[0-9a-f]{32}/);
	await until('the running program knows him', async () =>
		JSON.parse((await router.backend('stats')).out).users.carl);
	await press(carl, 'Link');
	assert.match(await scanned(), /^tg:\/\/proxy\?.*server=192\.0\.2\.1/);
	await press(dialog(), 'Close');
});

test('a user is switched off, and others stay connected', async () => {
	const { socket } = await connect(port, router.committed.anna.secret, 100);
	await page.locator('tr[data-sid="carl"] input[type=checkbox]').uncheck();
	await press(page, 'Save');
	await until('it is staged', () => router.staged.length == 1);
	assert.deepEqual(staged(), [ [ 'set', { config: 'mtbox', section: 'carl', values: { enabled: '0' } } ] ]);
	await press(page, 'Save & Apply');
	const users = await until('he is out', async () => {
		const { users } = JSON.parse((await router.backend('stats')).out);
		return users.carl.disabled && users;
	});
	assert.equal(users.anna.connections, 1);
	socket.destroy();
});

test('a new link is asked for twice, and takes the old one away', async () => {
	const old = router.committed.boris.secret;
	const boris = page.locator('tr[data-sid="boris"]');
	await press(boris, 'New link');
	await press(dialog(), 'Cancel');
	assert.deepEqual(staged(), []);
	await press(boris, 'New link');
	await dialog().getByText(/The present link of boris stops working/).waitFor();
	await press(dialog(), 'Make a new link');
	await boris.getByText('made when the changes are applied').waitFor();
	assert.deepEqual(staged(), [ [ 'delete', { config: 'mtbox', section: 'boris', options: [ 'secret' ] } ] ]);
	await press(page, 'Save & Apply');
	await boris.getByText('ready').waitFor();
	assert.notEqual(router.committed.boris.secret, old);
	await until('the old link is dead', async () => (await connect(port, old, 10)).got < 100_000);
});

test('a user is edited and removed', async () => {
	const dacha = page.locator('tr[data-sid="dacha"]');
	await press(dacha, 'Edit');
	assert.equal(await field('secret').getAttribute('type'), 'password');
	await field('name').fill('anna');
	await press(dialog(), 'Save');
	await page.getByText('This name is taken.').last().waitFor();
	await page.keyboard.press('Escape');
	await open('users');
	await press(dacha, 'Edit');
	await field('name').fill('Дача 2');
	await press(dialog(), 'Save');
	await dacha.getByText('Дача 2').waitFor();
	assert.deepEqual(staged(), [ [ 'set', { config: 'mtbox', section: 'dacha', values: { name: 'Дача 2' } } ] ]);
	await press(page.locator('tr[data-sid="carl"]'), 'Delete');
	await press(dialog(), 'Remove');
	await page.locator('tr[data-sid="carl"]').waitFor({ state: 'detached' });
	assert.deepEqual(staged()[1], [ 'delete', { config: 'mtbox', section: 'carl' } ]);
	await press(page, 'Save & Apply');
	await until('both are applied', async () => {
		const { users } = JSON.parse((await router.backend('stats')).out);
		return users['Дача 2'] && !users.carl;
	});
});

test('names and lines that are HTML stay text', async () => {
	router.log(`level=error event=${EVIL}`);
	for (const name of [ 'overview', 'users', 'log' ]) {
		await open(name);
		await page.getByText(EVIL).first().waitFor();
	}
	await open('users');
	await press(page.locator('tr[data-sid="evil"]'), 'Link');
	await dialog().getByText(EVIL).waitFor();
	await press(dialog(), 'Close');
	for (const button of [ 'New link', 'Delete', 'Edit' ]) {
		await press(page.locator('tr[data-sid="evil"]'), button);
		await dialog().waitFor();
		await press(dialog(), button == 'Edit' ? 'Dismiss' : 'Cancel');
	}
	await open('overview');
	await press(row(EVIL), 'Why?');
	await dialog().getByText(EVIL).waitFor();
	assert.equal(await page.evaluate(() => window.hacked), undefined);
	assert.equal(await page.locator('img').count(), 0);
});

test('settings are saved as options of UCI, and only what was changed', async () => {
	await open('settings');
	const tab = name => page.locator(`li[data-tab="${name}"] a`).click();
	await press(page, 'Save');
	await page.waitForTimeout(300);
	assert.deepEqual(staged(), [], 'nothing was touched');
	await tab('limits');
	await field('throttle_max_connections').fill('many');
	await press(page, 'Save');
	await dialog().getByText(/throttle_max_connections/).waitFor();
	await press(dialog(), 'Dismiss');
	await field('throttle_max_connections').fill('40');
	await field('state_file').locator('input').fill(`${router.dir}/state`);
	await tab('telegram');
	await field('prefer_ip').selectOption('only-ipv4');
	await tab('disguise');
	await field('defense_anti_replay_enabled').uncheck();
	await tab('lists');
	assert(await field('defense_blocklist_urls').isHidden());
	await field('defense_blocklist_enabled').check();
	await field('defense_blocklist_urls').fill('/etc/mtbox/a.netset\n/etc/mtbox/b.netset');
	await press(page, 'Save');
	await until('it is staged', () => router.staged.length == 6);
	const values = Object.assign({}, ...router.staged.map(([ method, { section, values } ]) => {
		assert.deepEqual([ method, section ], [ 'set', 'main' ]);
		return values;
	}));
	assert.deepEqual(values, {
		throttle_max_connections: '40', state_file: `${router.dir}/state`, prefer_ip: 'only-ipv4',
		defense_anti_replay_enabled: '0', defense_blocklist_enabled: '1',
		defense_blocklist_urls: [ '/etc/mtbox/a.netset', '/etc/mtbox/b.netset' ]
	});
	// The lists are not there, so the program would refuse them.
	router.staged = router.staged.filter(([ , { values } ]) => !Object.keys(values)[0].startsWith('defense_block'));
	await open('settings');
	await press(page, 'Save & Apply');
	await until('the program shares them', async () =>
		JSON.parse((await router.backend('stats')).out).throttle?.limit == 40);
});

test('the log is filtered by level', async () => {
	for (const level of [ 'error', 'warn', 'info', 'debug' ])
		router.log(`level=${level} event=sample-${level}`);
	await open('log');
	const lines = page.locator('#mtbox-log [data-level]');
	await page.getByText('sample-debug').waitFor();
	assert.match(await lines.first().innerText(), /sample-debug$/);
	await page.locator('#view select').selectOption('1');
	await until('only bad ones are left', async () => await page.getByText('sample-info').count() == 0);
	assert(await lines.count() >= 2);
	assert.match(await lines.first().innerText(), /sample-warn$/);
	router.log('level=error event=later');
	await press(page, 'Refresh');
	await page.getByText('event=later').waitFor();
});

test('everything is there in Russian', async () => {
	await connect(port, router.committed.boris.secret, 10, 900);
	await open('overview', '&lang=ru');
	await page.getByText('работает', { exact: true }).waitFor();
	await press(row('boris'), 'Почему?');
	await dialog().getByText('часы телефона спешат на 900 с').waitFor();
	await press(dialog(), 'Закрыть');
	for (const [ name, words ] of [ [ 'users', 'Добавить пользователя' ], [ 'settings', 'Открыть порт' ], [ 'log', 'Показать:' ] ]) {
		await open(name, '&lang=ru');
		await page.getByText(words).first().waitFor();
	}
});

test('a picture of the overview is taken', async () => {
	if (!pictures)
		return;
	delete router.committed.evil;
	router.reload();
	for (const [ name, size ] of [ [ 'anna', 900_000 ], [ 'anna', 120_000 ], [ 'boris', 64_000 ] ])
		phones.push((await connect(port, router.committed[name].secret, size)).socket);
	await open('overview');
	await page.waitForFunction(() => /^anna\t2\t/.test(document.querySelector('tr[data-user="anna"]').innerText));
	await page.screenshot({ path: path.join(pictures, 'luci-overview.png') });
	await press(row('anna'), 'Link');
	await dialog().locator('canvas').waitFor();
	await page.screenshot({ path: path.join(pictures, 'luci-link.png') });
	await open('users');
	await page.screenshot({ path: path.join(pictures, 'luci-users.png') });
});

test('no page had an error or asked anybody else', () => {
	assert.deepEqual(faults, []);
	assert.deepEqual(strangers, []);
});

await finish(async () => {
	phones.forEach(socket => socket.destroy());
	await browser.close();
	router.close();
	dc.close();
	fs.rmSync(profile, { recursive: true, force: true });
});
