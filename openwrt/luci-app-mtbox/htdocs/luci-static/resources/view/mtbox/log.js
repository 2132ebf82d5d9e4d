'use strict';
'require view';
'require poll';
'require dom';
'require mtbox.tools as tools';

/* The lines of mtbox in the system log, newest first. */

const REFRESH_SECONDS = 5;
const LEVELS = [ 'error', 'warn', 'info', 'debug' ];
const COLOURS = { error: '#c33', warn: '#b70', info: 'inherit', debug: '#888' };

// Prefers the `level` of mtbox. procd logs all of standard error with syslog severity "err".
function levelOf(line) {
	const level = /\blevel=(error|warn|info|debug)\b/.exec(line) ||
		/"level":"(error|warn|info|debug)"/i.exec(line);
	if (level)
		return level[1].toLowerCase();
	if (/\.(emerg|alert|crit|err)\b/.test(line))
		return 'error';
	return /\.warn\b/.test(line) ? 'warn' : 'info';
}

return view.extend({
	load: function() {
		return tools.log();
	},

	render: function(initial) {
		let answer = initial;
		const list = E('div', {
			'id': 'mtbox-log',
			'style': 'font-family:monospace;font-size:12px;overflow-wrap:anywhere'
		});
		const choice = E('select', { 'class': 'cbi-input-select', 'change': function() { show(); } }, [
			E('option', { 'value': 3 }, [ _('All messages') ]),
			E('option', { 'value': 2 }, [ _('Info and above') ]),
			E('option', { 'value': 1 }, [ _('Warnings and errors') ]),
			E('option', { 'value': 0 }, [ _('Errors') ])
		]);
		const show = function() {
			if (answer.errors)
				return dom.content(list, [ tools.warnings(answer.errors) ]);
			const lines = answer.lines.slice().reverse().map(function(line) {
				return { text: line, level: levelOf(line) };
			}).filter(function(line) {
				return LEVELS.indexOf(line.level) <= Number(choice.value);
			});
			dom.content(list, lines.length ? lines.map(function(line) {
				return E('div', {
					'data-level': line.level, 'style': 'color:' + COLOURS[line.level]
				}, [ line.text ]);
			}) : [ E('em', {}, [ _('No matching lines.') ]) ]);
		};
		const refresh = function() {
			return tools.log().then(function(fresh) {
				answer = fresh;
				show();
			});
		};

		poll.add(refresh, REFRESH_SECONDS);
		show();
		return E('div', { 'class': 'cbi-map' }, [
			E('h2', {}, [ _('mtbox: Log') ]),
			E('div', { 'class': 'cbi-section' }, [
				E('p', {}, [
					_('Show:'), ' ', choice, ' ', tools.button('action', _('Refresh'), refresh)
				]),
				list
			])
		]);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
