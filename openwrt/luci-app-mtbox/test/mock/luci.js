/*
 * A mock of the browser side of LuCI: the modules and functions that the pages of mtbox use, with
 * the same names and behaviour. As in LuCI, E() parses a bare string as HTML, so the tests find a
 * page that passes text this way.
 */
'use strict';

String.prototype.format = function(...args) {
	return this.replace(/%([sdhf%])/g, (all, kind) => {
		if (kind == '%')
			return '%';
		const value = args.shift();
		if (kind == 'd')
			return Math.floor(Number(value));
		return kind == 'h' ? String(value).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`) : value;
	});
};

window.TR = {};
window._ = text => window.TR[text] ?? text;

const dom = {
	append(node, children) {
		if (Array.isArray(children))
			for (const child of children)
				if (child instanceof Node)
					node.appendChild(child);
				else if (child != null)
					node.appendChild(document.createTextNode(String(child)));
				else
					;
		else if (children instanceof Node)
			node.appendChild(children);
		else if (children != null)
			node.innerHTML = String(children);
		return node.lastChild;
	},
	content(node, children) {
		node.replaceChildren();
		return dom.append(node, children);
	}
};

window.E = function(tag, attributes, children) {
	if (Array.isArray(tag)) {
		const fragment = document.createDocumentFragment();
		dom.append(fragment, tag);
		return fragment;
	}
	const node = document.createElement(tag);
	if (typeof attributes != 'object' || Array.isArray(attributes) || attributes instanceof Node)
		[ attributes, children ] = [ {}, attributes ];
	for (const [ name, value ] of Object.entries(attributes ?? {}))
		if (typeof value == 'function')
			node.addEventListener(name, value);
		else if (value != null)
			node.setAttribute(name, value);
	dom.append(node, children);
	return node;
};

window.L = {
	url: (...parts) => '#' + [ 'admin', ...parts ].join('/').replace(/^admin\/admin/, 'admin'),
	bind: (fn, self, ...args) => fn.bind(self, ...args),
	resolveDefault: (value, fallback) => Promise.resolve(value).catch(() => fallback)
};

/* baseclass: `super` looks the method up in the parent of the class of the object, as in LuCI. */
class Base {
	super(name, args) {
		let proto = Object.getPrototypeOf(Object.getPrototypeOf(this));
		while (!Object.hasOwn(proto, name))
			proto = Object.getPrototypeOf(proto);
		return proto[name].apply(this, args);
	}
}
const baseclass = { extend: parts => Object.assign(new Base(), parts) };

let requests = 0;
async function call(object, method, params) {
	const reply = await fetch('/ubus', {
		method: 'POST',
		body: JSON.stringify({
			jsonrpc: '2.0', id: ++requests, method: 'call', params: [ 'session', object, method, params ]
		})
	});
	const [ code, result ] = (await reply.json()).result;
	return { code, result };
}

const rpc = {
	declare: options => async (...args) => {
		const params = {};
		(options.params ?? []).forEach((name, at) => { params[name] = args[at]; });
		const { code, result } = await call(options.object, options.method, params);
		const [ [ key, fallback ] ] = Object.entries(options.expect ?? { '': {} });
		const value = key == '' ? result : result?.[key];
		return code != 0 || value == null ? fallback : value;
	}
};

const poll = {
	tasks: [],
	// Skips a run while the previous one is not finished.
	add(fn, seconds) {
		let isBusy = false;
		const step = async () => {
			if (isBusy)
				return;
			isBusy = true;
			await Promise.resolve(fn()).finally(() => { isBusy = false; });
		};
		poll.tasks.push(setInterval(step, seconds * 1000 * (window.pollScale ?? 1)));
	},
	clear() { poll.tasks.splice(0).forEach(clearInterval); }
};

/* UCI: the loaded configuration and the unsaved changes of this page. */
const uci = {
	loaded: {}, changes: [],
	async load(config) {
		if (!uci.loaded[config])
			uci.loaded[config] = (await call('uci', 'get', { config })).result.values;
	},
	sections: (config, type) => Object.values(uci.loaded[config])
		.filter(section => type == null || section['.type'] == type),
	get(config, sid, option) {
		const section = uci.loaded[config]?.[sid];
		return option == null ? section ?? null : section?.[option] ?? null;
	},
	set(config, sid, option, value) {
		uci.loaded[config][sid][option] = value;
		uci.changes.push([ 'set', { config, section: sid, values: { [option]: value } } ]);
	},
	unset(config, sid, option) {
		if (uci.get(config, sid, option) == null)
			return;
		delete uci.loaded[config][sid][option];
		uci.changes.push([ 'delete', { config, section: sid, options: [ option ] } ]);
	},
	add(config, type, name) {
		uci.loaded[config][name] = { '.name': name, '.type': type };
		uci.changes.push([ 'add', { config, type, name } ]);
		return name;
	},
	remove(config, sid) {
		delete uci.loaded[config][sid];
		uci.changes.push([ 'delete', { config, section: sid } ]);
	},
	async save() {
		for (const [ method, params ] of uci.changes.splice(0))
			await call('uci', method, params);
		uci.loaded = {};
	}
};

const ui = {
	showModal(title, children) {
		ui.hideModal();
		const box = E('div', { 'class': 'modal', 'role': 'dialog' }, E('h4', {}, title));
		dom.append(box, children);
		document.body.appendChild(E('div', { 'id': 'modal_overlay' }, [ box ]));
		return box;
	},
	hideModal() { document.getElementById('modal_overlay')?.remove(); },
	addNotification(title, children, ...classes) {
		const box = E('div', { 'class': 'alert-message ' + classes.join(' ') });
		if (title != null)
			dom.append(box, E('h4', {}, title));
		dom.append(box, children);
		document.getElementById('notices').appendChild(box);
		return box;
	},
	createHandlerFn(self, handler, ...args) {
		return ev => {
			const button = ev.currentTarget;
			const fn = typeof handler == 'string' ? self[handler] : handler;
			button.disabled = true;
			return Promise.resolve(fn.call(self, ...args, ev)).finally(() => { button.disabled = false; });
		};
	}
};

/* Forms. */
const DATATYPES = {
	port: value => /^\d+$/.test(value) && Number(value) <= 65535,
	uinteger: value => /^\d+$/.test(value),
	min: (value, least) => Number(value) >= least,
	range: (value, least, most) => Number(value) >= least && Number(value) <= most,
	maxlength: (value, most) => value.length <= most,
	uciname: value => /^[a-zA-Z0-9_]+$/.test(value),
	hostname: value => /^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$/.test(value) && /[^0-9.]/.test(value),
	ip4addr: value => /^(\d{1,3}\.){3}\d{1,3}$/.test(value),
	ip6addr: value => /^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$/.test(value),
	host: value => DATATYPES.hostname(value) || DATATYPES.ip4addr(value) || DATATYPES.ip6addr(value),
	ipaddrport: value => /^(\d{1,3}\.){3}\d{1,3}:\d+$|^\[[0-9a-fA-F:.]+\]:\d+$/.test(value)
};

function matches(datatype, value) {
	const [ , name, args ] = /^(\w+)(?:\((.*)\))?$/.exec(datatype);
	return DATATYPES[name](value, ...(args ? args.split(',').map(arg => arg.replace(/"/g, '')) : []));
}

class Option {
	constructor(section, option, title, description) {
		Object.assign(this, { section, map: section.map, option, title, description });
		Object.assign(this, { rmempty: true, choices: [], conditions: [], nodes: {} });
	}
	value(key, text) { this.choices.push([ key, text ?? key ]); }
	depends(name, value) { this.conditions.push([ name, value ]); }
	cfgvalue(sid) { return uci.get(this.map.config, sid, this.option); }
	formvalue(sid) { return this.read(this.nodes[sid]); }
	// An option without a widget is not active, for example in a section that was just added.
	isActive(sid) {
		return this.nodes[sid] != null && this.conditions.every(([ name, value ]) => this.section.options
			.find(other => other.option == name).formvalue(sid) == value);
	}
	textvalue(sid) {
		const value = this.cfgvalue(sid) ?? this.default;
		return value != null ? '%h'.format(value) : null;
	}
	errorOf(sid) {
		const value = this.formvalue(sid);
		for (const one of [].concat(value)) {
			if (one != '' && this.datatype && !matches(this.datatype, one))
				return `${this.option}: ${this.datatype}`;
			const result = this.validate ? this.validate(sid, one) : true;
			if (result !== true)
				return result;
		}
		return value == '' && !this.rmempty && !this.optional ? `${this.option}: empty` : null;
	}
	check(sid) {
		const error = this.errorOf(sid);
		this.nodes[sid].classList.toggle('invalid', error != null);
		this.nodes[sid].title = error ?? '';
		return error;
	}
	write(sid, value) { uci.set(this.map.config, sid, this.option, value); }
	remove(sid) { uci.unset(this.map.config, sid, this.option); }
	parse(sid) {
		if (!this.isActive(sid))
			return this.retain ? undefined : this.remove(sid);
		const error = this.check(sid);
		if (error != null)
			throw new TypeError(error);
		const value = this.formvalue(sid);
		if (value.length == 0)
			return this.remove(sid);
		if (String(value) != String(this.cfgvalue(sid) ?? ''))
			this.write(sid, value);
	}
	widget(sid) {
		const node = this.render(sid);
		node.dataset.option = this.option;
		node.addEventListener('change', () => { this.check(sid); this.section.toggle(sid); });
		return this.nodes[sid] = node;
	}
}

class Value extends Option {
	render(sid) {
		const value = this.cfgvalue(sid) ?? this.default ?? '';
		const input = E('input', {
			'type': this.password ? 'password' : 'text', 'placeholder': this.placeholder ?? null
		});
		input.value = value;
		if (!this.choices.length)
			return input;
		const id = 'choices-' + this.option;
		input.setAttribute('list', id);
		return E('span', {}, [ input, E('datalist', { 'id': id },
			this.choices.map(([ key, text ]) => E('option', { 'value': key }, [ text ]))) ]);
	}
	read(node) { return (node.querySelector('input') ?? node).value; }
}

class ListValue extends Option {
	render(sid) {
		const node = E('select', {}, this.choices.map(([ key, text ]) => E('option', { 'value': key }, [ text ])));
		node.value = this.cfgvalue(sid) ?? this.default ?? '';
		return node;
	}
	read(node) { return node.value; }
}

class DynamicList extends Option {
	render(sid) {
		const node = E('textarea', { 'rows': 2, 'placeholder': this.placeholder ?? null });
		node.value = [].concat(this.cfgvalue(sid) ?? []).join('\n');
		return node;
	}
	read(node) { return node.value.split('\n').map(line => line.trim()).filter(line => line); }
}

class Flag extends Option {
	constructor(...args) {
		super(...args);
		Object.assign(this, { enabled: '1', disabled: '0', default: '0' });
	}
	render(sid) {
		const node = E('input', { 'type': 'checkbox' });
		node.checked = (this.cfgvalue(sid) ?? this.default) == this.enabled;
		return node;
	}
	read(node) { return node.checked ? this.enabled : this.disabled; }
	parse(sid) {
		if (!this.isActive(sid))
			return this.retain ? undefined : this.remove(sid);
		const value = this.formvalue(sid);
		if (value == this.default && this.rmempty)
			this.remove(sid);
		else if (value != this.cfgvalue(sid))
			this.write(sid, value);
	}
}

class DummyValue extends Option {
	render(sid) { return E('span', {}, this.textvalue(sid)); }
	read() { return ''; }
	errorOf() { return null; }
	parse() {}
}

class Section extends Base {
	constructor(map, title, description) {
		super();
		Object.assign(this, { map, title, description, options: [], tabs: [], rows: {} });
	}
	tab(name, title) { this.tabs.push([ name, title ]); }
	option(Class, name, title, description) {
		const option = new Class(this, name, title, description);
		this.options.push(option);
		return option;
	}
	taboption(tab, ...args) {
		return Object.assign(this.option(...args), { tab });
	}
	toggle(sid) {
		for (const option of this.options)
			if (this.rows[sid]?.[option.option])
				this.rows[sid][option.option].hidden = !option.isActive(sid);
	}
	field(option, sid) {
		const row = E('div', { 'class': 'cbi-value' }, [
			E('label', { 'class': 'cbi-value-title' }, option.title),
			E('div', { 'class': 'cbi-value-field' }, [
				option.widget(sid),
				E('div', { 'class': 'cbi-value-description' }, option.description ?? '')
			])
		]);
		(this.rows[sid] ??= {})[option.option] = row;
		return row;
	}
}

class NamedSection extends Section {
	constructor(map, sid, type, title, description) {
		super(map, title, description);
		Object.assign(this, { sid, sectiontype: type });
	}
	parse() { this.options.forEach(option => option.parse(this.sid)); }
	render() {
		const panes = this.tabs.length ? this.tabs : [ [ undefined, '' ] ];
		const node = E('div', { 'class': 'cbi-section' });
		const menu = E('ul', { 'class': 'cbi-tabmenu' });
		const bodies = panes.map(([ name ]) => E('div', { 'data-tab': name }, this.options
			.filter(option => option.tab == name).map(option => this.field(option, this.sid))));
		const open = at => bodies.forEach((body, other) => {
			body.hidden = at != other;
			menu.children[other]?.classList.toggle('cbi-tab', at == other);
		});
		if (this.tabs.length) {
			dom.append(menu, panes.map(([ name, title ], at) => E('li', { 'data-tab': name }, [
				E('a', { 'href': '#', 'click': ev => { ev.preventDefault(); open(at); } }, [ title ])
			])));
			node.appendChild(menu);
		}
		dom.append(node, bodies);
		open(0);
		this.toggle(this.sid);
		return node;
	}
}

class TypedSection extends Section {
	constructor(map, type, title, description) {
		super(map, title, description);
		this.sectiontype = type;
	}
	cfgsections() { return uci.sections(this.map.config, this.sectiontype).map(section => section['.name']); }
	handleRemove(sid) {
		uci.remove(this.map.config, sid);
		return this.map.save(null, true);
	}
}

class TableSection extends TypedSection {
	renderRowActions(sid, more) {
		const cell = E('td', { 'class': 'td cbi-section-actions' }, E('div'));
		if (more)
			dom.append(cell.lastElementChild, [ E('button', {
				'class': 'btn cbi-button cbi-button-edit',
				'click': ui.createHandlerFn(this, 'renderMoreOptionsModal', sid)
			}, [ more ]), ' ' ]);
		if (this.addremove)
			dom.append(cell.lastElementChild, [ E('button', {
				'class': 'btn cbi-button cbi-button-remove',
				'click': ui.createHandlerFn(this, 'handleRemove', sid)
			}, [ _('Delete') ]) ]);
		return cell;
	}
}

class GridSection extends TableSection {
	renderRowActions(sid) { return super.renderRowActions(sid, _('Edit')); }
	columns() { return this.options.filter(option => !option.modalonly); }
	parse() {
		for (const sid of this.cfgsections())
			for (const option of this.columns())
				if (option.editable)
					option.parse(sid);
	}
	async renderMoreOptionsModal(sid) {
		const map = new FormMap(this.map.config);
		const section = map.section(NamedSection, sid, this.sectiontype);
		for (const own of this.options)
			if (own.modalonly !== false) {
				const option = section.option(own.constructor, own.option, own.title, own.description);
				for (const [ key, value ] of Object.entries(own))
					if (![ 'map', 'section', 'nodes' ].includes(key))
						option[key] = value;
			}
		const node = await map.render();
		const save = async () => {
			await map.save(null, true);
			ui.hideModal();
			await this.map.reset();
		};
		ui.showModal(this.modaltitle ? this.modaltitle(sid) : sid, [ node, E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Dismiss') ]), ' ',
			E('button', {
				'class': 'btn cbi-button-positive',
				'click': ui.createHandlerFn(this, () => save().catch(() => {}))
			}, [ _('Save') ])
		]) ]);
	}
	render() {
		const columns = this.columns();
		const head = E('tr', { 'class': 'tr table-titles' }, [ E('th', { 'class': 'th' }, [ _('Name') ]),
			...columns.map(option => E('th', { 'class': 'th' }, option.title)), E('th', { 'class': 'th' }) ]);
		const rows = this.cfgsections().map(sid => E('tr', { 'class': 'tr', 'data-sid': sid }, [
			E('td', { 'class': 'td' }, [ this.sectiontitle ? this.sectiontitle(sid) : sid ]),
			...columns.map(option => option.editable ? E('td', { 'class': 'td' }, [ option.widget(sid) ])
				: E('td', { 'class': 'td' }, option.textvalue(sid))),
			this.renderRowActions(sid)
		]));
		const name = E('input', { 'type': 'text', 'class': 'cbi-section-create-name' });
		const add = E('button', {
			'class': 'btn cbi-button cbi-button-add',
			'click': ui.createHandlerFn(this, ev => matches('uciname', name.value)
				? this.handleAdd(ev, name.value) : name.classList.add('invalid'))
		}, [ this.addbtntitle ]);
		return E('div', { 'class': 'cbi-section' }, [
			E('table', { 'class': 'table' }, [ head, ...rows ]),
			E('div', { 'class': 'cbi-section-create' }, [ name, ' ', add ])
		]);
	}
}

class FormMap {
	constructor(config, title, description) {
		Object.assign(this, { config, title, description, children: [], data: uci, readonly: false });
	}
	section(Class, ...args) {
		const section = new Class(this, ...args);
		this.children.push(section);
		return section;
	}
	async render() {
		await uci.load(this.config);
		this.node ??= Object.assign(E('div', { 'class': 'cbi-map' }), { map: this });
		dom.content(this.node, []);
		if (this.title)
			this.node.appendChild(E('h2', {}, this.title));
		if (this.description)
			this.node.appendChild(E('div', { 'class': 'cbi-map-descr' }, this.description));
		this.children.forEach(section => this.node.appendChild(section.render()));
		return this.node;
	}
	reset() { return this.render(); }
	async save() {
		try {
			this.children.forEach(section => section.parse());
		} catch (error) {
			ui.showModal(_('Save error'), [ E('p', {}, [ error.message ]),
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Dismiss') ]) ]);
			throw error;
		}
		await uci.save();
		await uci.load(this.config);
		await this.reset();
		await changed();
	}
}

const form = {
	Map: FormMap, NamedSection, TypedSection, TableSection, GridSection,
	Value, ListValue, DynamicList, Flag, DummyValue
};

async function changed() {
	const { result } = await call('uci', 'changes', { config: 'mtbox' });
	const label = document.getElementById('changes');
	label.textContent = _('Unsaved Changes') + ': ' + result.changes.length;
	label.hidden = !result.changes.length;
}

const maps = () => [ ...document.querySelectorAll('#view .cbi-map') ].filter(node => node.map);
const view = { extend: parts => Object.assign({
	load() {},
	handleSave: () => Promise.all(maps().map(node => node.map.save())),
	handleSaveApply() { return this.handleSave().then(() => call('uci', 'apply', {})).then(() => show()); },
	handleReset: () => Promise.all(maps().map(node => node.map.reset()))
}, parts) };

/* Modules by name. Modules of the app are fetched together with the modules they require. */
const modules = { baseclass, dom, form, poll, rpc, uci, ui, view };
async function load(name) {
	if (modules[name])
		return modules[name];
	const source = await (await fetch(`/resources/${name.replace(/\./g, '/')}.js`)).text();
	const needs = [ ...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm) ];
	const values = [];
	for (const [ , need ] of needs)
		values.push(await load(need));
	const names = needs.map(([ , need, as ]) => as ?? need.replace(/\W/g, '_'));
	const module = new Function(...names, `${source}\n//# sourceURL=${name}.js`)(...values);
	// A view is loaded again for each visit.
	return name.startsWith('view.') ? module : modules[name] = module;
}

async function show() {
	const path = location.hash.slice(1) || 'admin/services/mtbox/overview';
	const menu = await (await fetch('/menu')).json();
	poll.clear();
	ui.hideModal();
	uci.loaded = {};
	const tabs = document.getElementById('tabs');
	dom.content(tabs, Object.entries(menu).filter(([ , entry ]) => entry.action.type == 'view')
		.map(([ at, entry ]) => E('li', { 'class': at == path ? 'active' : '' },
			[ E('a', { 'href': '#' + at }, [ _(entry.title) ]) ])));
	const page = await load('view.' + menu[path].action.path.replace(/\//g, '.'));
	const loaded = await page.load();
	dom.content(document.getElementById('view'), await page.render(loaded));
	const foot = [ [ 'handleSaveApply', 'Save & Apply', 'apply' ], [ 'handleSave', 'Save', 'save' ],
		[ 'handleReset', 'Reset', 'reset' ] ];
	dom.content(document.getElementById('footer'), foot.filter(([ handler ]) => page[handler])
		.map(([ handler, title, kind ]) => E('button', {
			'class': 'btn cbi-button cbi-button-' + kind, 'data-action': kind,
			'click': ui.createHandlerFn(page, ev => Promise.resolve(page[handler](ev)).catch(() => {}))
		}, [ _(title) ])));
	await changed();
	document.body.dataset.shown = path;
}

window.addEventListener('hashchange', show);
window.addEventListener('DOMContentLoaded', async () => {
	const params = new URLSearchParams(location.search);
	window.pollScale = Number(params.get('pollscale') ?? 1);
	if (params.get('lang'))
		window.TR = await (await fetch('/translations/' + params.get('lang'))).json();
	await show();
});
