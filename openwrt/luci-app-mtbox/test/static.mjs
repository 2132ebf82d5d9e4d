// What can be told without a browser: the files fit one another, LuCI, and the program's source.
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

// Loads the modules as luci.js does and notes what they declare.
function load() {
	const seen = { declared: [], packages: new Set(), options: [], polls: 0 };
	// An element of which anything may be asked; it is no promise.
	const quiet = new Proxy(function() {}, {
		get: (all, key) => key == 'then' ? undefined : key == Symbol.toPrimitive ? () => '' : quiet,
		apply: () => quiet
	});
	class Option {
		constructor(section, name) {
			Object.assign(this, { section, name, enabled: '1', disabled: '0', choices: [] });
			seen.options.push(this);
		}
		value(key) { this.choices.push(key); }
		depends(name) { assert(this.section.options.some(other => other.name == name), name); }
	}
	class Section {
		constructor(type) { Object.assign(this, { type, options: [], tabs: [] }); }
		tab(name) { this.tabs.push(name); }
		option(kind, name) {
			assert(kind, `${name} has a kind that LuCI has`);
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
		poll: { add: () => { seen.polls++; } },
		rpc: { declare: what => { seen.declared.push(what); return () => Promise.resolve({}); } },
		uci: {
			load: name => { seen.packages.add(name); return Promise.resolve(); },
			get: () => null, sections: () => []
		},
		ui: { createHandlerFn: () => () => {} },
		dom: { content: () => {} },
		form: {
			Map: class {
				constructor(name) { seen.packages.add(name); }
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
		const needs = [ ...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm) ];
		const names = needs.map(([ , need, as ]) => as ?? need);
		const made = new Function('L', 'E', '_', 'document', ...names, source)({ url: () => '' }, () => quiet,
			value => value, quiet, ...needs.map(([ , need ]) => require(need)));
		return modules[name] = made;
	};
	return { seen, require };
}

const { seen, require } = load();

test('each page of the menu loads and renders', async () => {
	const pages = Object.values(menu).filter(entry => entry.action.type == 'view');
	assert.equal(pages.length, 4);
	for (const page of pages) {
		const view = require('view.' + page.action.path.replace('/', '.'));
		const loaded = view.load ? await view.load() : undefined;
		assert(await view.render(page.action.path == 'mtbox/log' ? { lines: [ 'a' ] } : loaded));
	}
	assert.equal(seen.polls, 2);
});

test('the pages ask only for modules that LuCI or this app has', () => {
	for (const script of scripts)
		for (const [ , name ] of fs.readFileSync(path.join(RESOURCES, script), 'utf8').matchAll(/^'require ([\w.]+)/gm))
			assert(FROM_LUCI.includes(name) || scripts.includes(name.replace(/\./g, '/') + '.js'), name);
});

test('the rights cover what the pages call, and nothing else', () => {
	const granted = acl['luci-app-mtbox'].read.ubus;
	const called = {};
	for (const { object, method } of seen.declared)
		(called[object] ??= new Set()).add(method);
	assert.deepEqual(Object.keys(granted).sort(), Object.keys(called).sort());
	for (const object of Object.keys(called))
		assert.deepEqual([ ...called[object] ].sort(), [ ...granted[object] ].sort());
	assert.deepEqual([ ...seen.packages ], [ 'mtbox' ]);
	for (const way of [ 'read', 'write' ])
		assert.deepEqual(acl['luci-app-mtbox'][way].uci, [ 'mtbox' ]);
	for (const entry of Object.values(menu))
		(entry.depends?.acl ?? []).forEach(name => assert(acl[name], name));
});

test('the script has the methods that the pages call', () => {
	const script = text('root/usr/libexec/rpcd/luci.mtbox');
	const listed = JSON.parse(/^\s*printf '(\{"status".*\})\\n'$/m.exec(script)[1]);
	assert.deepEqual(Object.keys(listed).sort(), [ ...acl['luci-app-mtbox'].read.ubus['luci.mtbox'] ].sort());
	for (const { object, method, params } of seen.declared)
		if (object == 'luci.mtbox')
			assert.deepEqual(Object.keys(listed[method]), params ?? [], method);
});

// The keys of the program's config, with their kinds and defaults.
function keys() {
	const source = fs.readFileSync(path.join(SRC, 'config/keys.rs'), 'utf8');
	const found = [ ...source.matchAll(/Key::new\(\s*"([^"]+)",\s*(\w+)/g) ];
	const defaults = [ ...source.matchAll(/Key::new\(\s*"([^"]+)",\s*Flag\([^\n]*\),\s*"(true|false)",/g) ];
	assert(found.length > 60, 'the table of keys is read');
	return {
		kinds: new Map(found.map(([ , key, kind ]) => [ key.replace(/[.-]/g, '_'), kind ])),
		flags: new Map(defaults.map(([ , key, value ]) => [ key.replace(/[.-]/g, '_'), value ]))
	};
}

const LISTS = [ 'Addresses', 'Ips', 'ListSources', 'Names', 'Networks', 'Pages', 'Proxies' ];
const OWN = { mtbox: [ 'enabled', 'port', 'host', 'open_port' ], user: [ 'enabled', 'name', 'host', 'secret' ] };

test('each option is a key of the program, of the same kind and default', () => {
	const { kinds, flags } = keys();
	let checked = 0;
	for (const { section, name, kind, default: value } of seen.options) {
		if (OWN[section.type].includes(name) || name.startsWith('_'))
			continue;
		assert.equal(section.type, 'mtbox', name);
		assert(kinds.has(name), `${name} is no key`);
		assert.equal(kind == 'DynamicList', LISTS.includes(kinds.get(name)), `${name}: list or not`);
		assert.equal(kind == 'Flag', kinds.get(name) == 'Flag', `${name}: flag or not`);
		if (kind == 'Flag')
			assert.equal(value == '1' ? 'true' : 'false', flags.get(name), `${name}: default`);
		checked++;
	}
	assert(checked >= 30, `${checked} options`);
});

test('choices are words of the program', () => {
	const source = fs.readFileSync(path.join(SRC, 'config/kinds.rs'), 'utf8') +
		fs.readFileSync(path.join(SRC, 'config/keys.rs'), 'utf8');
	const lists = seen.options.filter(option => option.kind == 'ListValue');
	assert.equal(lists.length, 4);
	for (const { name, choices } of lists)
		for (const choice of choices.filter(Boolean))
			assert(source.includes(`"${choice}"`) || source.includes('`' + choice + '`'), `${name}: ${choice}`);
});

test('what the program says of refusals is known to the pages', () => {
	const said = require('mtbox.words').said;
	const source = fs.readFileSync(path.join(SRC, 'accounts/recorder/cause.rs'), 'utf8');
	const table = source.slice(source.indexOf('fn told'), source.indexOf('\n    }\n', source.indexOf('fn told')));
	const unwrapped = table.replace(/\\\n\s*/g, '');
	const texts = [ ...unwrapped.matchAll(/"((?:[^"\\]|\\.)*)"/g) ].map(([ , found ]) => found.replace(/\\"/g, '"'));
	assert.equal(texts.length, 25 * 3);
	texts.filter((word, at) => at % 3).forEach(word => assert(said.includes(word), word));
	// Hints and details, with a word for what is put in.
	const hints = fs.readFileSync(path.join(SRC, 'daemon/admin/explain.rs'), 'utf8').replace(/\\\n\s*/g, '')
		.replace(/\{word\}/g, '\0').replace(/\{[^}"]*\}/g, '%s');
	for (const hint of said.slice(said.indexOf('the user is switched off, see disabled-users')))
		assert(hints.includes(`"${hint}"`) || hints.includes(hint.replace(/ahead|behind/, '\0')), hint);
});

test('nothing is put into a page as HTML', () => {
	for (const script of scripts) {
		const source = fs.readFileSync(path.join(RESOURCES, script), 'utf8');
		assert(!/innerHTML|outerHTML|insertAdjacentHTML|rawhtml|\beval\b|document\.write/.test(source), script);
		// A text node comes from a list; a lone text would be read as HTML.
		for (const [ call, children ] of source.matchAll(/\bE\('\w+', \{[^}]*\}, ([^\n]*)/g))
			assert(/^(\[|rows\)|children\)|[\w.]+\.map\(|Array\.isArray\()/.test(children), `${script}: ${call}`);
		assert(!/https?:\/\/(?!ifconfig\.co'|iplists\.firehol\.org|host\/path)/.test(source
			.replace(/'https\?:.*?'/g, '').replace(/\/\^.*\$\//g, '')), `${script} names a site`);
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

test('the package says what it needs', () => {
	const makefile = text('Makefile');
	assert.match(makefile, /^LUCI_DEPENDS:=\+luci-base \+mtbox$/m);
	assert.match(makefile, /^LUCI_PKGARCH:=all$/m);
	assert(fs.statSync(path.join(APP, 'root/usr/libexec/rpcd/luci.mtbox')).mode & 0o100);
});

await finish();
