'use strict';
'require baseclass';
'require rpc';
'require ui';
'require mtbox.qr as qr';

/*
 * Shared by all pages. User names and log lines can contain any character, and E() parses a bare
 * string as HTML. So text is always passed in an array, whose strings become text nodes.
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

// The backend accepts a name only as the hexadecimal digits of its UTF-8, which are safe in a shell.
function toHex(name) {
	return Array.from(new TextEncoder().encode(name)).map(function(byte) {
		return (byte < 16 ? '0' : '') + byte.toString(16);
	}).join('');
}

// Replaces a failed or empty response with an object that has `errors`.
function withErrors(promise, field) {
	return promise.then(function(answer) {
		return (answer.errors || answer[field] != null) ? answer
			: { errors: [ _('No response from the router. Log in again or restart rpcd.') ] };
	}, function(error) {
		return { errors: [ error.message || String(error) ] };
	});
}

function copy(field) {
	field.select();
	// navigator.clipboard exists in secure contexts (HTTPS) only.
	const copied = navigator.clipboard && window.isSecureContext
		? navigator.clipboard.writeText(field.value)
		: (document.execCommand('copy') ? Promise.resolve() : Promise.reject());
	return copied.then(function() {
		return _('Copied.');
	}, function() {
		return _('Press Ctrl+C to copy.');
	});
}

return baseclass.extend({
	status: function() { return withErrors(callStatus(), 'version'); },
	stats: function() { return withErrors(callStats(), 'users'); },
	log: function() { return withErrors(callLog(), 'lines'); },

	/* The report on one user; null = on all users and unauthenticated clients. */
	explain: function(name) {
		return name == null ? withErrors(callExplain(), 'users')
			: withErrors(callExplain(toHex(name)), 'user');
	},

	/* Whether procd reports a running instance. */
	isRunning: function() {
		return callServices('mtbox').then(function(services) {
			const instances = (services.mtbox || {}).instances || {};
			return Object.keys(instances).some(function(key) { return instances[key].running; });
		}, function() { return false; });
	},

	/* A number of bytes as text with a unit. */
	bytes: function(count) {
		let unit = 0;
		while (count >= 1024 && unit < BINARY_UNITS.length - 1) {
			count /= 1024;
			unit++;
		}
		return (unit && count < 100 ? count.toFixed(1) : String(Math.floor(count))) +
			'\u00a0' + BINARY_UNITS[unit];
	},

	/* A number of seconds as text with units. */
	duration: function(seconds) {
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

	/* Time since `stamp` as text; `now` is router time in milliseconds. */
	ago: function(stamp, now) {
		const seconds = stamp ? (now - Date.parse(stamp)) / 1000 : null;
		if (seconds == null || isNaN(seconds))
			return _('never');
		return seconds < 10 ? _('now') : _('%s ago').format(this.duration(seconds));
	},

	/* A box with warnings, one per line. */
	warnings: function(lines) {
		return E('div', { 'class': 'alert-message warning' }, lines.map(function(line) {
			return E('p', {}, [ String(line).replace(/^mtbox: (error: )?/, '') ]);
		}));
	},

	/* A button that is disabled while `action` runs. */
	button: function(kind, label, action) {
		return E('button', {
			'class': 'btn cbi-button cbi-button-' + kind,
			'click': ui.createHandlerFn(this, function(ev) {
				ev.preventDefault();
				return action(ev);
			})
		}, [ label ]);
	},

	/* A dialog with a Close button. */
	showDialog: function(title, children) {
		ui.showModal(title, children.concat(E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ])
		])));
	},

	/* Shows the links of a user with a QR code. */
	showLinks: function(name) {
		const self = this;
		return withErrors(callLinks(toHex(name)), 'access').then(function(answer) {
			const access = answer.access || {};
			const ofUser = function(links) {
				return Object.prototype.hasOwnProperty.call(links || {}, name) ? links[name] : [];
			};
			const all = ofUser(access.links).concat(ofUser(access.lan).map(function(link) {
				return Object.assign({ isLocal: true }, link);
			}));
			const children = [ E('p', {}, [ E('strong', {}, [ name ]) ]) ];
			if (answer.errors || answer.notes.length)
				children.push(self.warnings(answer.errors || answer.notes));
			if (all.length)
				children.push(self.linkPanel(all));
			else
				children.push(E('p', {}, [
					_('No link yet. A new user gets a link when the changes are applied.')
				]));
			self.showDialog(_('Link'), children);
		});
	},

	linkPanel: function(links) {
		const code = E('div', { 'class': 'center' });
		const field = E('textarea', {
			'class': 'mtbox-link', 'readonly': '', 'rows': 3, 'style': 'width:100%', 'spellcheck': 'false'
		});
		const note = E('em', {});
		const open = E('a', { 'class': 'btn cbi-button', 'href': '#' }, [ _('Open in Telegram') ]);
		const select = function(index) {
			field.value = links[index].tme_url;
			open.setAttribute('href', links[index].tg_url);
			note.textContent = '';
			code.replaceChildren(qr.draw(links[index].tg_url, 4));
		};
		const choice = E('select', {
			'class': 'cbi-input-select',
			'change': function(ev) { select(ev.target.selectedIndex); }
		}, links.map(function(link, index) {
			return E('option', { 'value': index }, [
				(link.host || link.ip) + (link.isLocal ? ' \u2014 ' + _('LAN only') : '')
			]);
		}));
		select(0);
		return E('div', {}, [
			E('p', {}, [ _('Server address:'), ' ', choice ]),
			code,
			field,
			E('p', {}, [
				this.button('action', _('Copy link'), function() {
					return copy(field).then(function(text) { note.textContent = text; });
				}), ' ', open, ' ', note
			]),
			E('p', {}, [ _('Anyone with this link can use the proxy. Keep it private.') ])
		]);
	}
});
