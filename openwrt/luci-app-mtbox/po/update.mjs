#!/usr/bin/env node
// Writes all texts of the pages to templates/mtbox.pot and updates each language: adds new texts
// without a translation, and removes texts that are no longer used.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const APP = fileURLToPath(new URL('..', import.meta.url));

function filesBelow(folder, ending) {
	return fs.readdirSync(path.join(APP, folder), { recursive: true })
		.filter(name => name.endsWith(ending)).map(name => path.join(folder, name)).sort();
}

// A map from each text to the files that contain it.
export function collect() {
	const found = new Map();
	const add = (text, file) => found.set(text, (found.get(text) ?? new Set()).add(file));
	for (const file of filesBelow('htdocs', '.js')) {
		const source = fs.readFileSync(path.join(APP, file), 'utf8');
		for (const [ , text ] of source.matchAll(/\b_\('((?:[^'\\\n]|\\.)*)'/g))
			add(text.replace(/\\(.)/g, '$1'), file);
	}
	for (const file of filesBelow('root', '.json')) {
		const source = fs.readFileSync(path.join(APP, file), 'utf8');
		for (const [ , text ] of source.matchAll(/"(?:title|description)": ("(?:[^"\\]|\\.)*")/g))
			add(JSON.parse(text), file);
	}
	return found;
}

// A map from text to translation; the empty text has the header of the .po file.
export function read(text) {
	const joined = lines => lines.split('\n').filter(Boolean).map(JSON.parse).join('');
	const entries = text.matchAll(/^msgid ((?:".*"\n)+)msgstr ((?:".*"\n?)+)/gm);
	return new Map([ ...entries ].map(([ , id, str ]) => [ joined(id), joined(str) ]));
}

export function print(header, texts, translated) {
	const entries = [ ...texts ].map(([ text, files ]) =>
		`#: ${[ ...files ].join('\n#: ')}\nmsgid ${JSON.stringify(text)}\nmsgstr ${JSON.stringify(translated.get(text) ?? '')}\n`);
	const lines = header.split('\n').filter(Boolean).map(line => JSON.stringify(line + '\n'));
	return [ `msgid ""\nmsgstr ""\n${lines.join('\n')}\n`, ...entries ].join('\n');
}

if (process.argv[1] == fileURLToPath(import.meta.url)) {
	const texts = collect();
	fs.writeFileSync(path.join(APP, 'po/templates/mtbox.pot'),
		print('Content-Type: text/plain; charset=UTF-8', texts, new Map()));
	for (const file of filesBelow('po', '.po')) {
		const known = read(fs.readFileSync(path.join(APP, file), 'utf8'));
		fs.writeFileSync(path.join(APP, file), print(known.get(''), texts, known));
		const missing = [ ...texts.keys() ].filter(text => !known.get(text));
		console.log(`${file}: ${texts.size} texts, ${missing.length} not translated`);
	}
}
