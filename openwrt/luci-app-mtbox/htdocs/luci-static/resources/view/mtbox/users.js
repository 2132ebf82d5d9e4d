'use strict';
'require view';
'require form';
'require uci';
'require ui';
'require mtbox.tools as tools';

/*
 * Users. All changes go through UCI. The init script gives a secret to every user section without
 * one, so a new user is a section without `secret`, and a new link is a section with `secret`
 * deleted.
 */

const NAME_BYTES = 64;

function nameOf(sid) {
	return uci.get('mtbox', sid, 'name') || sid;
}

// A secret is ee, a 16-byte key and the host name, all in hexadecimal digits.
function hostOf(sid) {
	const secret = /^ee[0-9a-f]{32}((?:[0-9a-f]{2})+)$/i.exec(uci.get('mtbox', sid, 'secret') || '');
	if (secret)
		return secret[1].replace(/../g, function(pair) { return String.fromCharCode(parseInt(pair, 16)); });
	return uci.get('mtbox', sid, 'host') || uci.get('mtbox', 'main', 'host') || 'www.google.com';
}

function notify(text) {
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
			_('Each user has a separate link, so you can revoke one link without affecting the others. Changes take effect after Save & Apply. They do not interrupt the connections of other users.'));

		const s = m.section(form.GridSection, 'user');
		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add user');
		s.sectiontitle = nameOf;
		s.modaltitle = function(sid) { return _('User') + ' ' + sid; };

		// The name becomes the name of a UCI section, which allows letters, digits and _ only.
		s.handleAdd = function(ev, name) {
			if (!/^[A-Za-z0-9_]+$/.test(name) || name.length > NAME_BYTES)
				return notify(_('A name consists of 1 to 64 letters, digits or underscores. You can set a display name under Edit.'));
			if (uci.get('mtbox', name) != null ||
			    uci.sections('mtbox', 'user').some(function(user) { return nameOf(user['.name']) == name; }))
				return notify(_('This name is already in use.'));
			m.data.add('mtbox', 'user', name);
			return m.save(null, true);
		};

		s.handleRemove = function(sid) {
			confirm(_('Remove user'),
				_('The link of %s stops working permanently.').format(nameOf(sid)),
				_('Remove'), function() {
					m.data.remove('mtbox', sid);
					return m.save(null, true);
				});
		};

		const rotate = function(sid) {
			confirm(_('New link'),
				_('The current link of %s stops working when the changes are applied. Send the new link to the user.').format(nameOf(sid)),
				_('Create new link'), function() {
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
			const renew = tools.button('neutral', _('New link'), function() { return rotate(sid); });
			link.disabled = !hasLink;
			renew.disabled = !hasLink || m.readonly;
			cell.lastElementChild.prepend(link, ' ', renew, ' ');
			return cell;
		};

		let o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = o.enabled;
		o.editable = true;

		o = s.option(form.DummyValue, '_link', _('Link'));
		o.modalonly = false;
		o.textvalue = function(sid) {
			return E('span', {}, [ uci.get('mtbox', sid, 'secret') != null
				? _('ready') : _('created when the changes are applied') ]);
		};

		o = s.option(form.DummyValue, '_site', _('Web site'));
		o.modalonly = false;
		o.textvalue = function(sid) {
			return E('span', {}, [ hostOf(sid) ]);
		};

		o = s.option(form.Value, 'name', _('Display name'),
			_('For names that contain other characters than letters, digits and underscores.'));
		o.modalonly = true;
		o.validate = function(sid, value) {
			if (new TextEncoder().encode(value).length > NAME_BYTES || /[\x00-\x1f\x7f-\x9f]/.test(value))
				return _('A name has at most 64 bytes and no control characters.');
			const taken = uci.sections('mtbox', 'user').some(function(user) {
				return user['.name'] != sid && nameOf(user['.name']) == (value || sid);
			});
			return taken ? _('This name is already in use.') : true;
		};

		o = s.option(form.Value, 'host', _('Web site'),
			_('Web site that the connections of this user look like. It replaces the web site in the settings. It is part of the link: create a new link after a change.'));
		o.modalonly = true;
		o.datatype = 'hostname';

		o = s.option(form.Value, 'secret', _('Secret'),
			_('Part of the link. Keep it, or paste a secret that is already in use. If the field is empty, mtbox creates a new secret.'));
		o.modalonly = true;
		o.password = true;
		o.validate = function(sid, value) {
			return value == '' || /^ee[0-9a-fA-F]{34,}$|^7[A-Za-z0-9+\/_=-]{23,}$/.test(value)
				? true : _('A secret starts with ee in hexadecimal or with 7 in base64.');
		};

		return m.render();
	}
});
