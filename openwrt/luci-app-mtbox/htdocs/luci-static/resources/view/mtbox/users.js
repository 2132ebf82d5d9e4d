'use strict';
'require view';
'require form';
'require uci';
'require ui';
'require mtbox.tools as tools';

/*
 * The people. All of it is UCI: a user without a secret gets one when the changes are applied, so
 * a new user is a section without one, and a new link is a section that has lost it.
 */

const NAME_BYTES = 64;

function nameOf(sid) {
	return uci.get('mtbox', sid, 'name') || sid;
}

// The site is part of a secret: behind ee and 16 bytes, in hexadecimal digits.
function siteOf(sid) {
	const made = /^ee[0-9a-f]{32}((?:[0-9a-f]{2})+)$/i.exec(uci.get('mtbox', sid, 'secret') || '');
	if (made)
		return made[1].replace(/../g, function(pair) { return String.fromCharCode(parseInt(pair, 16)); });
	return uci.get('mtbox', sid, 'host') || uci.get('mtbox', 'main', 'host') || 'www.google.com';
}

function message(text) {
	ui.addNotification(null, E('p', {}, [ text ]), 'warning');
}

function confirm(title, question, label, action) {
	ui.showModal(title, [
		E('p', {}, [ question ]),
		E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]),
			' ',
			tools.button('negative', label, function() {
				return Promise.resolve(action()).then(ui.hideModal);
			})
		])
	]);
}

return view.extend({
	load: function() {
		return uci.load('mtbox');
	},

	render: function() {
		const m = new form.Map('mtbox', _('mtbox: Users'),
			_('Everybody gets a link of their own, so that one can be taken back without the others. Changes work after Save & Apply; connections of other users go on.'));

		const s = m.section(form.GridSection, 'user');
		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add user');
		s.sectiontitle = nameOf;
		s.modaltitle = function(sid) { return _('User') + ' ' + sid; };

		// The name becomes a UCI section: letters, digits and _; LuCI's own check sees to that.
		s.handleAdd = function(ev, name) {
			if (!/^[A-Za-z0-9_]+$/.test(name) || name.length > NAME_BYTES)
				return message(_('A name has 1 to 64 letters, digits or _. Another spelling can be set below Edit.'));
			if (uci.get('mtbox', name) != null ||
			    uci.sections('mtbox', 'user').some(function(user) { return nameOf(user['.name']) == name; }))
				return message(_('This name is taken.'));
			m.data.add('mtbox', 'user', name);
			return m.save(null, true);
		};

		s.handleRemove = function(sid) {
			confirm(_('Remove a user'),
				_('The link of %s stops working for good.').format(nameOf(sid)),
				_('Remove'), function() {
					m.data.remove('mtbox', sid);
					return m.save(null, true);
				});
		};

		const rotate = function(sid) {
			confirm(_('New link'),
				_('The present link of %s stops working when the changes are applied. A new one has to be sent.').format(nameOf(sid)),
				_('Make a new link'), function() {
					m.data.unset('mtbox', sid, 'secret');
					return m.save(null, true);
				});
		};

		s.renderRowActions = function(sid) {
			const cell = this.super('renderRowActions', [ sid, _('Edit') ]);
			const hasLink = uci.get('mtbox', sid, 'secret') != null;
			const link = tools.button('action', _('Link'), function() {
				return tools.showLinks(nameOf(sid));
			});
			const fresh = tools.button('neutral', _('New link'), function() { return rotate(sid); });
			link.disabled = !hasLink;
			fresh.disabled = !hasLink || m.readonly;
			cell.lastElementChild.prepend(link, ' ', fresh, ' ');
			return cell;
		};

		let o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = o.enabled;
		o.editable = true;

		o = s.option(form.DummyValue, '_link', _('Link'));
		o.modalonly = false;
		o.textvalue = function(sid) {
			return E('span', {}, [ uci.get('mtbox', sid, 'secret') != null
				? _('ready') : _('made when the changes are applied') ]);
		};

		o = s.option(form.DummyValue, '_site', _('Site'));
		o.modalonly = false;
		o.textvalue = function(sid) {
			return E('span', {}, [ siteOf(sid) ]);
		};

		o = s.option(form.Value, 'name', _('Shown name'),
			_('Where the name needs more than letters, digits and _.'));
		o.modalonly = true;
		o.validate = function(sid, value) {
			if (new TextEncoder().encode(value).length > NAME_BYTES || /[\x00-\x1f\x7f-\x9f]/.test(value))
				return _('A name has up to 64 bytes and no control characters.');
			const taken = uci.sections('mtbox', 'user').some(function(user) {
				return user['.name'] != sid && nameOf(user['.name']) == (value || sid);
			});
			return taken ? _('This name is taken.') : true;
		};

		o = s.option(form.Value, 'host', _('Site'),
			_('The web site that this user\'s connections look like, instead of the one in the settings. It is part of the link: make a new link after a change.'));
		o.modalonly = true;
		o.datatype = 'hostname';

		o = s.option(form.Value, 'secret', _('Secret'),
			_('Part of the link. Leave it as it is, or paste one that people use already; without one, a new one is made.'));
		o.modalonly = true;
		o.password = true;
		o.validate = function(sid, value) {
			return value == '' || /^ee[0-9a-fA-F]{34,}$|^7[A-Za-z0-9+\/_=-]{23,}$/.test(value)
				? true : _('A secret starts with ee, or with 7 in base64.');
		};

		return m.render();
	}
});
