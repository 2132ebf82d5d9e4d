// Decodes the QR codes of the app with jsQR, an independent implementation.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';

import { finish, test } from './check.mjs';

const jsQR = createRequire(process.argv[2] + '/')('jsqr');
const source = fs.readFileSync(new URL('../htdocs/luci-static/resources/mtbox/qr.js', import.meta.url), 'utf8');
const qr = new Function('baseclass', '_', 'E', source)({ extend: parts => parts }, text => text, null);
// Capacity in bytes of versions 1 to 20 at level M (ISO/IEC 18004, table 7).
const CAPACITY = [ 14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287, 331, 362, 412, 450, 504, 560, 624, 666 ];

// Draws a symbol with four pixels per module and a quiet zone, then decodes it.
function decode(rows) {
	const scale = 4, side = (rows.length + 8) * scale;
	const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
	for (let y = 0; y < side; y++)
		for (let x = 0; x < side; x++)
			if (rows[Math.floor(y / scale) - 4]?.[Math.floor(x / scale) - 4])
				pixels.fill(0, (y * side + x) * 4, (y * side + x) * 4 + 3);
	return jsQR(pixels, side, side)?.data;
}

test('each version has the capacity of the standard and can be decoded', () => {
	CAPACITY.forEach((capacity, at) => {
		for (const length of [ at ? CAPACITY[at - 1] + 1 : 1, capacity ]) {
			const text = Array.from({ length }, (_, i) => String.fromCharCode(33 + (i * 37 + at * 11) % 94)).join('');
			const rows = qr.encode(text);
			assert.equal(rows.length, at * 4 + 21, `${length} bytes`);
			assert.equal(decode(rows), text);
		}
	});
});

test('text is encoded as UTF-8, and a text that is too long is refused', () => {
	assert.equal(decode(qr.encode('Дача, é')), 'Дача, é');
	assert.throws(() => qr.encode('x'.repeat(667)), /too long/);
});

await finish();
