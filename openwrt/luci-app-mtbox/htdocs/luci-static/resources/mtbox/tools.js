'use strict';
'require baseclass';
'require rpc';
'require ui';
'require mtbox.qr as qr';

/*
 * What the pages share. Names of users and lines of the log may hold anything, and LuCI takes a
 * lone string for HTML: text always goes into a list, where it becomes a text node.
 */

const callStatus = rpc.declare({ object: 'luci.mtbox', method: 'status', expect: { '': {} } });
const callStats = rpc.declare({ object: 'luci.mtbox', method: 'stats', expect: { '': {} } });
const callLog = rpc.declare({ object: 'luci.mtbox', method: 'log', expect: { '': {} } });
const callLinks = rpc.declare({
	object: 'luci.mtbox', method: 'links', params: [ 'user' ], expect: { '': {} }
});
const callExplain = rpc.declare({
	object: 'luci.mtbox', method: 'explain', params: [ 'user' ], expect: { '': {} }
});
const callServices = rpc.declare({
	object: 'service', method: 'list', params: [ 'name' ], expect: { '': {} }
});

const BINARY_UNITS = [ 'B', 'KiB', 'MiB', 'GiB', 'TiB' ];

// The backend takes names as hexadecimal digits only, so that none can do harm there.
function digits(name) {
	return Array.from(new TextEncoder().encode(name)).map(function(byte) {
		return (byte < 16 ? '0' : '') + byte.toString(16);
	}).join('');
}

// Where there is no answer, its `errors` say why.
function answered(promise, field) {
	return promise.then(function(answer) {
		return (answer.errors || answer[field] != null) ? answer
			: { errors: [ _('The router gave no answer; log in again, or restart rpcd.') ] };
	}, function(error) {
		return { errors: [ error.message || String(error) ] };
	});
}

function copy(field) {
	field.select();
	// Browsers offer navigator.clipboard on encrypted pages only.
	const done = navigator.clipboard && window.isSecureContext
		? navigator.clipboard.writeText(field.value)
		: (document.execCommand('copy') ? Promise.resolve() : Promise.reject());
	return done.then(function() {
		return _('Copied.');
	}, function() {
		return _('Press Ctrl+C to copy.');
	});
}

return baseclass.extend({
	status: function() { return answered(callStatus(), 'version'); },
	stats: function() { return answered(callStats(), 'users'); },
	log: function() { return answered(callLog(), 'lines'); },

	/* About one user, or about everybody for null. */
	explain: function(name) {
		return name == null ? answered(callExplain(), 'users')
			: answered(callExplain(digits(name)), 'user');
	},

	/* Is the program there, as procd sees it? */
	isRunning: function() {
		return callServices('mtbox').then(function(services) {
			const instances = (services.mtbox || {}).instances || {};
			return Object.keys(instances).some(function(key) { return instances[key].running; });
		}, function() { return false; });
	},

	/* A number of bytes for people. */
	bytes: function(count) {
		let unit = 0;
		while (count >= 1024 && unit < BINARY_UNITS.length - 1) {
			count /= 1024;
			unit++;
		}
		return (unit && count < 100 ? count.toFixed(1) : String(Math.floor(count))) +
			'\u00a0' + BINARY_UNITS[unit];
	},

	/* A number of seconds for people. */
	span: function(seconds) {
		seconds = Math.max(0, Math.floor(seconds));
		const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
		if (seconds < 60)
			return _('%d s').format(seconds);
		if (minutes < 60)
			return _('%d min').format(minutes);
		if (hours < 48)
			return _('%d h %d min').format(hours, minutes % 60);
		return _('%d days').format(Math.floor(hours / 24));
	},

	/* How long ago a moment was; `now` is by the router's clock. */
	ago: function(stamp, now) {
		const seconds = stamp ? (now - Date.parse(stamp)) / 1000 : null;
		if (seconds == null || isNaN(seconds))
			return _('never');
		return seconds < 10 ? _('now') : _('%s ago').format(this.span(seconds));
	},

	/* Lines that tell what is wrong. */
	troubles: function(lines) {
		return E('div', { 'class': 'alert-message warning' }, lines.map(function(line) {
			return E('p', {}, [ String(line).replace(/^mtbox: (error: )?/, '') ]);
		}));
	},

	/* A button that is busy until what it started has ended. */
	button: function(kind, label, action) {
		return E('button', {
			'class': 'btn cbi-button cbi-button-' + kind,
			'click': ui.createHandlerFn(this, function(ev) {
				ev.preventDefault();
				return action(ev);
			})
		}, [ label ]);
	},

	/* A window with one button to close it. */
	showWindow: function(title, children) {
		ui.showModal(title, children.concat(E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ])
		])));
	},

	/* Asks the router for the links of a user and shows them, with a picture to scan. */
	showLinks: function(name) {
		const self = this;
		return answered(callLinks(digits(name)), 'access').then(function(answer) {
			const access = answer.access || {};
			const own = function(links) {
				return Object.prototype.hasOwnProperty.call(links || {}, name) ? links[name] : [];
			};
			const all = own(access.links).concat(own(access.lan).map(function(link) {
				return Object.assign({ isLocal: true }, link);
			}));
			const children = [ E('p', {}, [ E('strong', {}, [ name ]) ]) ];
			if (answer.errors || answer.notes.length)
				children.push(self.troubles(answer.errors || answer.notes));
			if (all.length)
				children.push(self.linkPanel(all));
			else
				children.push(E('p', {}, [
					_('There is no link yet. A new user gets one when the changes have been applied.')
				]));
			self.showWindow(_('Link'), children);
		});
	},

	linkPanel: function(links) {
		const picture = E('div', { 'class': 'center' });
		const field = E('textarea', {
			'class': 'mtbox-link', 'readonly': '', 'rows': 3, 'style': 'width:100%', 'spellcheck': 'false'
		});
		const note = E('em', {});
		const open = E('a', { 'class': 'btn cbi-button', 'href': '#' }, [ _('Open in Telegram') ]);
		const choose = function(index) {
			field.value = links[index].tme_url;
			open.setAttribute('href', links[index].tg_url);
			note.textContent = '';
			picture.replaceChildren(qr.draw(links[index].tg_url, 4));
		};
		const choice = E('select', {
			'class': 'cbi-input-select',
			'change': function(ev) { choose(ev.target.selectedIndex); }
		}, links.map(function(link, index) {
			return E('option', { 'value': index }, [
				link.ip + (link.isLocal ? ' \u2014 ' + _('at home only') : '')
			]);
		}));
		choose(0);
		return E('div', {}, [
			E('p', {}, [ _('Address in the link:'), ' ', choice ]),
			picture,
			field,
			E('p', {}, [
				this.button('action', _('Copy link'), function() {
					return copy(field).then(function(text) { note.textContent = text; });
				}), ' ', open, ' ', note
			]),
			E('p', {}, [ _('Who has this link can use the proxy: pass it on in private.') ])
		]);
	}
});
