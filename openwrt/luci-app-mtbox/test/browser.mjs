// Tests the pages in chromium: a mock of LuCI around them, the real rpcd script and a running mtbox
// behind them.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

import { finish, test, until } from './check.mjs';
import { connect, listenAsTelegram } from './client.mjs';
import { Router, config, freePort } from './router.mjs';

const [ , , program, packages, pictures ] = process.argv;
const require = createRequire(packages + '/');
const { chromium } = require('playwright-core');
const jsQR = require('jsqr');

const HTML_NAME = `<img src=x onerror="window.hacked=1">`;
const dc = await listenAsTelegram();
const port = await freePort();
const router = new Router(program, config(port, dc.address().port, {
	anna: {}, boris: {}, dacha: { enabled: '0' }, html: { name: HTML_NAME }
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
const errors = [];
page.on('pageerror', error => errors.push(error.stack));
page.on('console', message => message.type() == 'error' && errors.push(message.text()));
const foreignRequests = [];
page.on('request', request => {
	if (!request.url().startsWith(url) && !request.url().startsWith('data:'))
		foreignRequests.push(request.url());
});

async function open(name, query = '') {
	await page.goto(`${url}?pollscale=0.2${query}#admin/services/mtbox/${name}`);
	await page.reload();
	await page.waitForSelector(`body[data-shown$="/${name}"]`);
}
const row = name => page.locator('#mtbox-users tr').filter({ has: page.getByRole('cell', { name, exact: true }) });
const click = (scope, name) => scope.getByRole('button', { name, exact: true }).click();
const dialog = () => page.getByRole('dialog');
const field = name => page.locator(`[data-option="${name}"]`);
const staged = () => router.staged.map(([ method, { type, ...params } ]) => [ method, { ...type && { type }, ...params } ]);

// Decodes the QR code in the dialog.
async function scannedText() {
	const { data, width, height } = await dialog().locator('canvas').evaluate(canvas => {
		const { width, height } = canvas;
		return { data: [ ...canvas.getContext('2d').getImageData(0, 0, width, height).data ], width, height };
	});
	return jsQR(new Uint8ClampedArray(data), width, height)?.data;
}

const clients = [];
await until('mtbox answers', async () => JSON.parse((await router.backend('stats')).out).users);

test('the overview shows a live session and follows its changes', async () => {
	await open('overview');
	await page.getByText('running', { exact: true }).waitFor();
	assert.match(await row('anna').innerText(), /^anna\t0\t/);
	clients.push((await connect(port, router.committed.anna.secret, 300_000)).socket);
	await page.waitForFunction(() => /^anna\t1\t29[23](\.\d)?\u00a0KiB\t\d+(\.\d)?\u00a0KiB\tnow\t0 Details/.test(
		document.querySelector('tr[data-user="anna"]').innerText));
	clients.pop().destroy();
	await page.waitForFunction(() => /^anna\t0\t/.test(document.querySelector('tr[data-user="anna"]').innerText));
	await page.getByText('disabled', { exact: true }).waitFor();
});

test('one click shows a link and its QR code', async () => {
	await click(row('boris'), 'Link');
	const access = JSON.parse(router.run('access', router.toml, '--user', 'boris'));
	const [ link ] = access.links.boris;
	assert.equal(await dialog().locator('textarea').inputValue(), link.tme_url);
	assert.equal(await dialog().getByText('Open in Telegram').getAttribute('href'), link.tg_url);
	assert.equal(await scannedText(), link.tg_url);
	await click(dialog(), 'Copy link');
	await dialog().getByText(/^(Copied|Press Ctrl)/).waitFor();
	await click(dialog(), 'Close');
	await dialog().waitFor({ state: 'detached' });
});

test('refusals are explained', async () => {
	await connect(port, router.committed.boris.secret, 10, 900);
	await page.waitForFunction(() => document.querySelector('tr[data-user="boris"]').innerText.includes('\t1 Details'));
	await click(row('boris'), 'Details');
	await dialog().locator('[data-cause="clock-off"]').getByText('the clock of the phone is 900 s ahead').waitFor();
	await click(dialog(), 'Close');
	await connect(port, 'ee' + '00'.repeat(16) + router.committed.boris.secret.slice(34), 10);
	await click(page, 'Unauthenticated clients');
	await dialog().locator('[data-cause="wrong-key"]').getByText('TLS hello with a key that matches no user').waitFor();
	await click(dialog(), 'Close');
});

test('the overview shows why the service does not run', async () => {
	router.committed.main.enabled = '0';
	router.reload();
	await open('overview');
	await page.getByText('The service is disabled.').waitFor();
	router.committed.main.enabled = '1';
	router.committed.html.secret = 'nonsense';
	await assert.rejects(router.ubus('uci', 'apply', {}));
	await open('overview');
	await page.locator('.alert-message').getByText(/secret/).first().waitFor();
	delete router.committed.html.secret;
	router.reload();
	await page.getByText('running', { exact: true }).waitFor();
});

test('the overview shows errors of a configuration that was not applied', async () => {
	const { secret } = router.committed.html;
	router.committed.html.secret = 'nonsense';
	await assert.rejects(router.ubus('uci', 'apply', {}));
	await open('overview');
	await page.getByText(/The service keeps running with the previous configuration/).waitFor();
	await page.getByText('running', { exact: true }).waitFor();
	router.committed.html.secret = secret;
	router.reload();
	await open('overview');
	await page.getByText('running', { exact: true }).waitFor();
	assert.equal(await page.locator('.alert-message').count(), 0);
});

test('a user is added, and has a link after Save & Apply', async () => {
	await open('users');
	const name = page.locator('.cbi-section-create-name');
	for (const used of [ 'anna', 'main' ]) {
		await name.fill(used);
		await click(page, 'Add user');
		await page.getByText('This name is already in use.').last().waitFor();
	}
	await name.fill('two words');
	await click(page, 'Add user');
	assert.deepEqual(staged(), []);
	await name.fill('carl');
	await click(page, 'Add user');
	const carl = page.locator('tr[data-sid="carl"]');
	await carl.getByText('created when the changes are applied').waitFor();
	assert(await carl.getByRole('button', { name: 'Link', exact: true }).isDisabled());
	assert.deepEqual(staged(), [ [ 'add', { type: 'user', config: 'mtbox', name: 'carl' } ] ]);
	await click(page, 'Save & Apply');
	await carl.getByText('ready').waitFor();
	assert.match(router.committed.carl.secret, /^ee[0-9a-f]{32}/);
	await until('mtbox has loaded the new user', async () =>
		JSON.parse((await router.backend('stats')).out).users.carl);
	await click(carl, 'Link');
	assert.match(await scannedText(), /^tg:\/\/proxy\?.*server=192\.0\.2\.1/);
	await click(dialog(), 'Close');
});

test('a user is disabled, and others stay connected', async () => {
	const { socket } = await connect(port, router.committed.anna.secret, 100);
	await page.locator('tr[data-sid="carl"] input[type=checkbox]').uncheck();
	await click(page, 'Save');
	await until('the change is staged', () => router.staged.length == 1);
	assert.deepEqual(staged(), [ [ 'set', { config: 'mtbox', section: 'carl', values: { enabled: '0' } } ] ]);
	await click(page, 'Save & Apply');
	const users = await until('the user is disabled', async () => {
		const { users } = JSON.parse((await router.backend('stats')).out);
		return users.carl.disabled && users;
	});
	assert.equal(users.anna.connections, 1);
	socket.destroy();
});

test('a new link has to be confirmed and replaces the old one', async () => {
	const old = router.committed.boris.secret;
	const boris = page.locator('tr[data-sid="boris"]');
	await click(boris, 'New link');
	await click(dialog(), 'Cancel');
	assert.deepEqual(staged(), []);
	await click(boris, 'New link');
	await dialog().getByText(/The current link of boris stops working/).waitFor();
	await click(dialog(), 'Create new link');
	await boris.getByText('created when the changes are applied').waitFor();
	assert.deepEqual(staged(), [ [ 'delete', { config: 'mtbox', section: 'boris', options: [ 'secret' ] } ] ]);
	await click(page, 'Save & Apply');
	await boris.getByText('ready').waitFor();
	assert.notEqual(router.committed.boris.secret, old);
	await until('the old link stops working', async () => (await connect(port, old, 10)).got < 100_000);
});

test('a user is edited and removed', async () => {
	const dacha = page.locator('tr[data-sid="dacha"]');
	await click(dacha, 'Edit');
	assert.equal(await field('secret').getAttribute('type'), 'password');
	await field('name').fill('anna');
	await click(dialog(), 'Save');
	await page.getByText('This name is already in use.').last().waitFor();
	await page.keyboard.press('Escape');
	await open('users');
	await click(dacha, 'Edit');
	await field('name').fill('Дача 2');
	await click(dialog(), 'Save');
	await dacha.getByText('Дача 2').waitFor();
	assert.deepEqual(staged(), [ [ 'set', { config: 'mtbox', section: 'dacha', values: { name: 'Дача 2' } } ] ]);
	await click(page.locator('tr[data-sid="carl"]'), 'Delete');
	await click(dialog(), 'Remove');
	await page.locator('tr[data-sid="carl"]').waitFor({ state: 'detached' });
	assert.deepEqual(staged()[1], [ 'delete', { config: 'mtbox', section: 'carl' } ]);
	await click(page, 'Save & Apply');
	await until('both changes are applied', async () => {
		const { users } = JSON.parse((await router.backend('stats')).out);
		return users['Дача 2'] && !users.carl;
	});
});

test('user names and log lines with HTML are shown as text', async () => {
	router.log(`level=error event=${HTML_NAME}`);
	for (const name of [ 'overview', 'users', 'log' ]) {
		await open(name);
		await page.getByText(HTML_NAME).first().waitFor();
	}
	await open('users');
	await click(page.locator('tr[data-sid="html"]'), 'Link');
	await dialog().getByText(HTML_NAME).waitFor();
	await click(dialog(), 'Close');
	for (const button of [ 'New link', 'Delete', 'Edit' ]) {
		await click(page.locator('tr[data-sid="html"]'), button);
		await dialog().waitFor();
		await click(dialog(), button == 'Edit' ? 'Dismiss' : 'Cancel');
	}
	await open('overview');
	await click(row(HTML_NAME), 'Details');
	await dialog().getByText(HTML_NAME).waitFor();
	assert.equal(await page.evaluate(() => window.hacked), undefined);
	assert.equal(await page.locator('img').count(), 0);
});

test('only changed settings are saved as UCI options', async () => {
	await open('settings');
	const tab = name => page.locator(`li[data-tab="${name}"] a`).click();
	await click(page, 'Save');
	await page.waitForTimeout(300);
	assert.deepEqual(staged(), [], 'nothing was changed');
	await tab('limits');
	await field('throttle_max_connections').fill('many');
	await click(page, 'Save');
	await dialog().getByText(/throttle_max_connections/).waitFor();
	await click(dialog(), 'Dismiss');
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
	await click(page, 'Save');
	await until('the change is staged', () => router.staged.length == 6);
	const values = Object.assign({}, ...router.staged.map(([ method, { section, values } ]) => {
		assert.deepEqual([ method, section ], [ 'set', 'main' ]);
		return values;
	}));
	assert.deepEqual(values, {
		throttle_max_connections: '40', state_file: `${router.dir}/state`, prefer_ip: 'only-ipv4',
		defense_anti_replay_enabled: '0', defense_blocklist_enabled: '1',
		defense_blocklist_urls: [ '/etc/mtbox/a.netset', '/etc/mtbox/b.netset' ]
	});
	// The list files do not exist, so mtbox would refuse this configuration.
	router.staged = router.staged.filter(([ , { values } ]) => !Object.keys(values)[0].startsWith('defense_block'));
	await open('settings');
	await click(page, 'Save & Apply');
	await until('mtbox applies the limit', async () =>
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
	await until('lower levels are hidden', async () => await page.getByText('sample-info').count() == 0);
	assert(await lines.count() >= 2);
	assert.match(await lines.first().innerText(), /sample-warn$/);
	router.log('level=error event=added');
	await click(page, 'Refresh');
	await page.getByText('event=added').waitFor();
});

test('all pages are available in Russian', async () => {
	await connect(port, router.committed.boris.secret, 10, 900);
	await open('overview', '&lang=ru');
	await page.getByText('работает', { exact: true }).waitFor();
	await click(row('boris'), 'Подробности');
	await dialog().getByText('часы телефона спешат на 900 с').waitFor();
	await click(dialog(), 'Закрыть');
	for (const [ name, text ] of [ [ 'users', 'Добавить пользователя' ], [ 'settings', 'Открыть порт' ], [ 'log', 'Показать:' ] ]) {
		await open(name, '&lang=ru');
		await page.getByText(text).first().waitFor();
	}
});

test('screenshots are taken', async () => {
	if (!pictures)
		return;
	delete router.committed.html;
	router.reload();
	for (const [ name, size ] of [ [ 'anna', 900_000 ], [ 'anna', 120_000 ], [ 'boris', 64_000 ] ])
		clients.push((await connect(port, router.committed[name].secret, size)).socket);
	await open('overview');
	await page.waitForFunction(() => /^anna\t2\t/.test(document.querySelector('tr[data-user="anna"]').innerText));
	await page.screenshot({ path: path.join(pictures, 'luci-overview.png') });
	await click(row('anna'), 'Link');
	await dialog().locator('canvas').waitFor();
	await page.screenshot({ path: path.join(pictures, 'luci-link.png') });
	await open('users');
	await page.screenshot({ path: path.join(pictures, 'luci-users.png') });
});

test('the pages cause no error and no request to another server', () => {
	assert.deepEqual(errors, []);
	assert.deepEqual(foreignRequests, []);
});

await finish(async () => {
	clients.forEach(socket => socket.destroy());
	await browser.close();
	router.close();
	dc.close();
	fs.rmSync(profile, { recursive: true, force: true });
});
