// Tests without a browser: the files of the app are consistent with each other, with LuCI and with
// the source of mtbox.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { collect, print, read } from '../po/update.mjs';
import { finish, test } from './check.mjs';

const APP = fileURLToPath(new URL('..', import.meta.url));
const SRC = path.resolve(APP, '../../src');
const RESOURCES = path.join(APP, 'htdocs/luci-static/resources');
const text = file => fs.readFileSync(path.join(APP, file), 'utf8');
const menu = JSON.parse(text('root/usr/share/luci/menu.d/luci-app-mtbox.json'));
const acl = JSON.parse(text('root/usr/share/rpcd/acl.d/luci-app-mtbox.json'));
const scripts = fs.readdirSync(RESOURCES, { recursive: true }).filter(name => name.endsWith('.js'));
const FROM_LUCI = [ 'baseclass', 'dom', 'form', 'poll', 'rpc', 'uci', 'ui', 'view' ];

// Loads the modules as luci.js does and records what they declare.
function load() {
	const recorded = { declared: [], packages: new Set(), options: [], polls: 0 };
	// An element with any property and method. `then` is absent, or `await` would call it.
	const element = new Proxy(function() {}, {
		get: (all, key) => key == 'then' ? undefined : key == Symbol.toPrimitive ? () => '' : element,
		apply: () => element
	});
	class Option {
		constructor(section, name) {
			Object.assign(this, { section, name, enabled: '1', disabled: '0', choices: [] });
			recorded.options.push(this);
		}
		value(key) { this.choices.push(key); }
		depends(name) { assert(this.section.options.some(other => other.name == name), name); }
	}
	class Section {
		constructor(type) { Object.assign(this, { type, options: [], tabs: [] }); }
		tab(name) { this.tabs.push(name); }
		option(kind, name) {
			assert(kind, `${name}: LuCI has no such widget`);
			this.options.push(Object.assign(new Option(this, name), { kind }));
			return this.options.at(-1);
		}
		taboption(tab, ...args) {
			assert(this.tabs.includes(tab), tab);
			return this.option(...args);
		}
	}
	const modules = {
		baseclass: { extend: parts => parts },
		view: { extend: parts => parts },
		poll: { add: () => { recorded.polls++; } },
		rpc: { declare: call => { recorded.declared.push(call); return () => Promise.resolve({}); } },
		uci: {
			load: name => { recorded.packages.add(name); return Promise.resolve(); },
			get: () => null, sections: () => []
		},
		ui: { createHandlerFn: () => () => {} },
		dom: { content: () => {} },
		form: {
			Map: class {
				constructor(name) { recorded.packages.add(name); }
				section(kind, ...names) { return new Section(names.at(-1)); }
				render() { return {}; }
			},
			...Object.fromEntries([ 'NamedSection', 'GridSection', 'Flag', 'Value', 'ListValue', 'DynamicList',
				'DummyValue' ].map(kind => [ kind, kind ]))
		}
	};
	const require = name => {
		if (modules[name])
			return modules[name];
		const source = fs.readFileSync(path.join(RESOURCES, name.replace(/\./g, '/') + '.js'), 'utf8');
		assert(source.startsWith("'use strict';\n"), name);
		const requires = [ ...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm) ];
		const names = requires.map(([ , name, as ]) => as ?? name);
		const module = new Function('L', 'E', '_', 'document', ...names, source)({ url: () => '' }, () => element,
			value => value, element, ...requires.map(([ , name ]) => require(name)));
		return modules[name] = module;
	};
	return { recorded, require };
}

const { recorded, require } = load();

test('each page of the menu loads and renders', async () => {
	const pages = Object.values(menu).filter(entry => entry.action.type == 'view');
	assert.equal(pages.length, 4);
	for (const page of pages) {
		const view = require('view.' + page.action.path.replace('/', '.'));
		const loaded = view.load ? await view.load() : undefined;
		assert(await view.render(page.action.path == 'mtbox/log' ? { lines: [ 'a' ] } : loaded));
	}
	assert.equal(recorded.polls, 2);
});

test('the pages require only modules of LuCI or of this app', () => {
	for (const script of scripts)
		for (const [ , name ] of fs.readFileSync(path.join(RESOURCES, script), 'utf8').matchAll(/^'require ([\w.]+)/gm))
			assert(FROM_LUCI.includes(name) || scripts.includes(name.replace(/\./g, '/') + '.js'), name);
});

test('the ACL grants exactly the calls of the pages', () => {
	const granted = acl['luci-app-mtbox'].read.ubus;
	const called = {};
	for (const { object, method } of recorded.declared)
		(called[object] ??= new Set()).add(method);
	assert.deepEqual(Object.keys(granted).sort(), Object.keys(called).sort());
	for (const object of Object.keys(called))
		assert.deepEqual([ ...called[object] ].sort(), [ ...granted[object] ].sort());
	assert.deepEqual([ ...recorded.packages ], [ 'mtbox' ]);
	for (const access of [ 'read', 'write' ])
		assert.deepEqual(acl['luci-app-mtbox'][access].uci, [ 'mtbox' ]);
	for (const entry of Object.values(menu))
		(entry.depends?.acl ?? []).forEach(name => assert(acl[name], name));
});

test('the script has the methods that the pages call', () => {
	const script = text('root/usr/libexec/rpcd/luci.mtbox');
	const listed = JSON.parse(/^\s*printf '(\{"status".*\})\\n'$/m.exec(script)[1]);
	assert.deepEqual(Object.keys(listed).sort(), [ ...acl['luci-app-mtbox'].read.ubus['luci.mtbox'] ].sort());
	for (const { object, method, params } of recorded.declared)
		if (object == 'luci.mtbox')
			assert.deepEqual(Object.keys(listed[method]), params ?? [], method);
});

// The configuration keys of mtbox by the names of their options. packaging/generate.rs makes the list.
const KEYS = new Map(JSON.parse(fs.readFileSync(path.join(APP, '../../packaging/keys.json'), 'utf8'))
	.filter(key => !key.old).map(key => [ key.key.replace(/[.-]/g, '_'), key ]));
const UCI_ONLY = { mtbox: [ 'enabled', 'port', 'host', 'open_port' ], user: [ 'enabled', 'name', 'host', 'secret' ] };

// The keys that the form leaves out, by reason.
const NOT_IN_FORM = {
	'has a page or a field of its own': [ 'secret', 'secrets', 'disabled_users', 'debug' ],
	'belongs to the service': [ 'api_bind_to', 'pid_file', 'log_format', 'log_to' ],
	'is for servers behind a load balancer or with a web server': [ 'proxy_protocol_listener',
		'proxy_protocol_trusted', 'domain_fronting_proxy_protocol', 'network_reuse_port' ],
	'has a default that fits routers': [ 'allow_fallback_on_unknown_dc', 'domain_fronting_scout',
		'throttle_check_interval', 'memory_limit', 'network_tcp_not_sent_lowat', 'network_re_encrypt', 'network_moderation',
		'network_timeout_tcp', 'network_timeout_http', 'network_timeout_handshake', 'network_keep_alive_disabled',
		'network_keep_alive_idle', 'network_keep_alive_interval', 'network_keep_alive_count',
		'defense_anti_replay_max_size', 'defense_blocklist_download_concurrency',
		'defense_allowlist_download_concurrency', 'stats_statsd_metric_prefix', 'stats_prometheus_http_path',
		'stats_prometheus_metric_prefix' ],
	'is for experts, who edit /etc/config/mtbox': [ 'network_dns_bootstrap', 'network_bind_address',
		'network_tcp_congestion', 'network_multipath_tcp', 'network_ca_file', 'telegram_dc_list_urls',
		'telegram_dc_overrides', 'defense_doppelganger_urls', 'defense_doppelganger_repeats_per_raid',
		'defense_doppelganger_raid_each', 'defense_doppelganger_drs' ],
	'has no effect': [ 'defense_anti_replay_error_rate' ]
};

// The Rust files below src whose path matches, as one text with line continuations joined.
function rustFiles(isWanted) {
	const names = fs.readdirSync(SRC, { recursive: true }).filter(name => name.endsWith('.rs') && isWanted(name));
	assert(names.length, `no file for ${isWanted}`);
	return names.map(name => fs.readFileSync(path.join(SRC, name), 'utf8')).join('').replace(/\\\n\s*/g, '');
}

test('each option is a key of mtbox with the same kind and default', () => {
	let checked = 0;
	for (const { section, name, kind, default: value, placeholder, choices } of recorded.options) {
		if (UCI_ONLY[section.type].includes(name) || name.startsWith('_'))
			continue;
		assert.equal(section.type, 'mtbox', name);
		const key = KEYS.get(name);
		assert(key, `${name}: no such key`);
		assert.equal(kind == 'DynamicList', key.list, `${name}: list or not`);
		assert.equal(kind == 'Flag', key.type == 'bool', `${name}: flag or not`);
		assert.equal(kind == 'ListValue', key.type == 'word', `${name}: choice or not`);
		if (kind == 'Flag')
			assert.equal(value == '1', key.default, `${name}: default`);
		// The default is the empty choice.
		if (kind == 'ListValue')
			assert.deepEqual([ ...choices ].sort(), [ '', ...key.words.filter(word => word != key.default) ].sort(), name);
		// Other placeholders are examples.
		if (placeholder && !key.list && key.default !== undefined)
			assert.equal(placeholder, String(key.default), `${name}: placeholder`);
		checked++;
	}
	assert(checked >= 30, `${checked} options`);
});

test('each key of mtbox is an option or left out for a reason', () => {
	const options = recorded.options.filter(({ section }) => section.type == 'mtbox').map(({ name }) => name);
	const left = Object.values(NOT_IN_FORM).flat();
	for (const name of KEYS.keys())
		assert.notEqual(options.includes(name), left.includes(name), `${name}: in the form or in NOT_IN_FORM`);
	assert.deepEqual(left.filter(name => !KEYS.has(name)), []);
});

test('the messages of mtbox explain are listed for translation', () => {
	const { messages } = require('mtbox.messages');
	// Per cause: identifier, description, remedy.
	const table = rustFiles(name => name.endsWith('/recorder/cause.rs')).replace(/\n#\[cfg\(test\)\][^]*/, '');
	const texts = [ ...table.matchAll(/"((?:[^"\\]|\\.)*)"/g) ].map(([ , found ]) => found.replace(/\\"/g, '"'));
	assert.equal(texts.length, Number(table.match(/ALL: \[Self; (\d+)\]/)[1]) * 3);
	texts.filter((text, at) => at % 3).forEach(text => assert(messages.includes(text), text));
	// Hints and details, with \0 for the direction of a clock difference and %s for other values.
	const hints = rustFiles(name => /^daemon\/.*(explain|guidance)\.rs$/.test(name))
		.replace(/\{side\}/g, '\0').replace(/\{[^}"]*\}/g, '%s');
	for (const hint of messages.filter(message => !texts.includes(message)))
		assert(hints.includes(`"${hint}"`) || hints.includes(hint.replace(/ahead|behind/, '\0')), hint);
});

test('the pages insert no HTML', () => {
	for (const script of scripts) {
		const source = fs.readFileSync(path.join(RESOURCES, script), 'utf8');
		assert(!/innerHTML|outerHTML|insertAdjacentHTML|rawhtml|\beval\b|document\.write/.test(source), script);
		// Strings in an array become text nodes; a bare string is parsed as HTML.
		for (const [ call, children ] of source.matchAll(/\bE\('\w+', \{[^}]*\}, ([^\n]*)/g))
			assert(/^(\[|rows\)|children\)|[\w.]+\.map\(|Array\.isArray\()/.test(children), `${script}: ${call}`);
		assert(!/https?:\/\/(?!ifconfig\.co'|iplists\.firehol\.org|host\/path)/.test(source
			.replace(/'https\?:.*?'/g, '').replace(/\/\^.*\$\//g, '')), `${script} contains a URL`);
	}
});

test('each text is in the template and has a Russian translation', () => {
	const texts = collect();
	assert(texts.size > 200);
	assert.equal(text('po/templates/mtbox.pot'),
		print('Content-Type: text/plain; charset=UTF-8', texts, new Map()), 'run po/update.mjs');
	const source = text('po/ru/mtbox.po');
	assert(!/^#,.*fuzzy/m.test(source));
	const russian = read(source);
	assert.deepEqual([ ...russian.keys() ].sort(), [ '', ...texts.keys() ].sort());
	russian.delete('');
	for (const [ english, translated ] of russian) {
		assert(translated.trim(), `no translation: ${english}`);
		const marks = line => line.match(/%[sd]/g) ?? [];
		assert.deepEqual(marks(translated), marks(english), english);
		assert(/[а-я]/i.test(translated) || /^(mtbox|Prometheus|StatsD)$/.test(english), english);
	}
});

test('the package declares its dependencies', () => {
	const makefile = text('Makefile');
	assert.match(makefile, /^LUCI_DEPENDS:=\+luci-base \+mtbox$/m);
	assert.match(makefile, /^LUCI_PKGARCH:=all$/m);
	assert(fs.statSync(path.join(APP, 'root/usr/libexec/rpcd/luci.mtbox')).mode & 0o100);
});

await finish();
