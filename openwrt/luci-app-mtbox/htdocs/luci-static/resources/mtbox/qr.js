'use strict';
'require baseclass';

/*
 * QR code encoder (ISO/IEC 18004): byte mode, error correction level M, versions 1 to 20, at most
 * 666 bytes. Links contain secrets, so the code is drawn in the browser and not by a web service.
 * Not every release of LuCI has an encoder.
 */

// Per version: error correction codewords per block, and number of blocks (table 9, level M).
const EC_CODEWORDS = [ 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26 ];
const BLOCKS = [ 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16 ];

const EXP = [], LOG = [];
for (let i = 0, x = 1; i < 255; i++) {
	EXP[i] = x;
	LOG[x] = i;
	x = (x << 1) ^ (x & 0x80 ? 0x11d : 0);
}

// Product in GF(256).
function multiply(a, b) {
	return a && b ? EXP[(LOG[a] + LOG[b]) % 255] : 0;
}

// Centre coordinates of the alignment patterns on one axis (annex E).
function alignments(version) {
	if (version == 1)
		return [];
	const count = Math.floor(version / 7) + 2;
	const last = version * 4 + 10;
	const step = Math.ceil((last - 6) / (count - 1) / 2) * 2;
	const centres = [ 6 ];
	for (let i = 1; i < count; i++)
		centres.push(last - (count - 1 - i) * step);
	return centres;
}

// Number of codewords, error correction included.
function totalCodewords(version) {
	const count = alignments(version).length;
	let bits = (16 * version + 128) * version + 64;
	if (count)
		bits -= (25 * count - 10) * count - 55;
	if (version >= 7)
		bits -= 36;
	return bits >> 3;
}

// Number of data codewords.
function dataCodewords(version) {
	return totalCodewords(version) - EC_CODEWORDS[version - 1] * BLOCKS[version - 1];
}

// Reed-Solomon error correction codewords of one block.
function errorCorrection(data, degree) {
	// Product of all (x - 2^i) without the leading coefficient.
	let generator = [ 1 ];
	for (let i = 0; i < degree; i++) {
		const next = generator.concat(0);
		generator.forEach(function(factor, at) { next[at + 1] ^= multiply(factor, EXP[i]); });
		generator = next;
	}
	const rest = new Array(degree).fill(0);
	data.forEach(function(byte) {
		const factor = byte ^ rest.shift();
		rest.push(0);
		for (let i = 0; i < degree; i++)
			rest[i] ^= multiply(generator[i + 1], factor);
	});
	return rest;
}

// Data codewords: mode, length, text, terminator and padding.
function encodeData(bytes, version) {
	const bits = [];
	const put = function(value, length) {
		while (length--)
			bits.push((value >> length) & 1);
	};
	put(4, 4);
	put(bytes.length, version < 10 ? 8 : 16);
	bytes.forEach(function(byte) { put(byte, 8); });
	put(0, Math.min(4, dataCodewords(version) * 8 - bits.length));
	put(0, -bits.length & 7);
	for (let pad = 0xec; bits.length < dataCodewords(version) * 8; pad ^= 0xec ^ 0x11)
		put(pad, 8);
	const out = [];
	for (let i = 0; i < bits.length; i += 8)
		out.push(bits.slice(i, i + 8).reduce(function(sum, bit) { return sum << 1 | bit; }, 0));
	return out;
}

// Splits data into blocks, adds error correction codewords, and interleaves the blocks.
function interleave(data, version) {
	const count = BLOCKS[version - 1];
	const small = Math.floor(data.length / count);
	const firstLarge = count - data.length % count;
	const blocks = [];
	for (let i = 0, at = 0; i < count; i++) {
		const length = small + (i >= firstLarge ? 1 : 0);
		blocks.push(data.slice(at, at + length));
		at += length;
	}
	const checks = blocks.map(function(block) {
		return errorCorrection(block, EC_CODEWORDS[version - 1]);
	});
	const out = [];
	[ blocks, checks ].forEach(function(lists) {
		const longest = lists[lists.length - 1].length;
		for (let i = 0; i < longest; i++)
			lists.forEach(function(list) {
				if (i < list.length)
					out.push(list[i]);
			});
	});
	return out;
}

// Appends the BCH check bits for a generator polynomial of the given degree.
function withCheckBits(value, generator, degree) {
	let rest = value;
	for (let i = 0; i < degree; i++)
		rest = (rest << 1) ^ ((rest >> (degree - 1)) * generator);
	return value << degree | rest;
}

const MASKS = [
	function(x, y) { return (x + y) % 2 == 0; },
	function(x, y) { return y % 2 == 0; },
	function(x) { return x % 3 == 0; },
	function(x, y) { return (x + y) % 3 == 0; },
	function(x, y) { return (Math.floor(x / 3) + Math.floor(y / 2)) % 2 == 0; },
	function(x, y) { return x * y % 2 + x * y % 3 == 0; },
	function(x, y) { return (x * y % 2 + x * y % 3) % 2 == 0; },
	function(x, y) { return ((x + y) % 2 + x * y % 3) % 2 == 0; }
];

// A symbol with its function patterns only; `fixed[y][x]` marks their modules.
function functionPatterns(version) {
	const size = version * 4 + 17;
	const grid = [], fixed = [];
	for (let y = 0; y < size; y++) {
		grid.push(new Array(size).fill(false));
		fixed.push(new Array(size).fill(false));
	}
	const set = function(x, y, dark) {
		if (x < 0 || y < 0 || x >= size || y >= size)
			return;
		grid[y][x] = dark;
		fixed[y][x] = true;
	};
	for (let i = 0; i < size; i++) {
		set(i, 6, i % 2 == 0);
		set(6, i, i % 2 == 0);
	}
	[ [ 3, 3 ], [ size - 4, 3 ], [ 3, size - 4 ] ].forEach(function(at) {
		for (let dy = -4; dy <= 4; dy++)
			for (let dx = -4; dx <= 4; dx++) {
				const ring = Math.max(Math.abs(dx), Math.abs(dy));
				set(at[0] + dx, at[1] + dy, ring != 2 && ring != 4);
			}
	});
	const centres = alignments(version), last = centres.length - 1;
	centres.forEach(function(y, row) {
		centres.forEach(function(x, column) {
			const corner = (row == 0 && (column == 0 || column == last)) || (row == last && column == 0);
			for (let dy = -2; dy <= 2 && !corner; dy++)
				for (let dx = -2; dx <= 2; dx++)
					set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) != 1);
		});
	});
	if (version >= 7) {
		const bits = withCheckBits(version, 0x1f25, 12);
		for (let i = 0; i < 18; i++) {
			const near = Math.floor(i / 3), far = size - 11 + i % 3;
			set(near, far, (bits >> i & 1) == 1);
			set(far, near, (bits >> i & 1) == 1);
		}
	}
	return { size: size, grid: grid, fixed: fixed, set: set };
}

// Level M has the indicator 00, so the format data is the mask number.
function putFormat(symbol, mask) {
	const bits = withCheckBits(mask, 0x537, 10) ^ 0x5412;
	const size = symbol.size;
	for (let i = 0; i < 15; i++) {
		const dark = (bits >> i & 1) == 1;
		if (i < 8)
			symbol.set(size - 1 - i, 8, dark);
		else
			symbol.set(8, size - 15 + i, dark);
		if (i < 6)
			symbol.set(8, i, dark);
		else if (i < 8)
			symbol.set(8, i + 1, dark);
		else
			symbol.set(i == 8 ? 7 : 14 - i, 8, dark);
	}
	symbol.set(8, size - 8, true);
}

// Places codewords in two-module columns from right to left, alternating up and down. Skips
// column 6, the vertical timing pattern.
function putCodewords(symbol, bytes, mask) {
	let bit = 0;
	for (let right = symbol.size - 1; right >= 1; right -= 2) {
		if (right == 6)
			right = 5;
		for (let step = 0; step < symbol.size; step++)
			for (let side = 0; side < 2; side++) {
				const x = right - side;
				const up = (right + 1 & 2) == 0;
				const y = up ? symbol.size - 1 - step : step;
				if (symbol.fixed[y][x])
					continue;
				const dark = bit < bytes.length * 8 && bytes[bit >> 3] >> (7 - (bit & 7)) & 1;
				symbol.grid[y][x] = (dark == 1) != MASKS[mask](x, y);
				bit++;
			}
	}
}

// Penalty score of a masked symbol (section 7.8.3): runs, 2x2 blocks, finder-like patterns, and the
// proportion of dark modules.
function penalty(grid) {
	const size = grid.length;
	let sum = 0, dark = 0;
	const line = function(at) {
		let run = 0, before = null, bits = 0;
		for (let i = 0; i < size; i++) {
			run = at(i) === before ? run + 1 : 1;
			before = at(i);
			if (run == 5)
				sum += 3;
			else if (run > 5)
				sum++;
			bits = (bits << 1 | (before ? 1 : 0)) & 0x7ff;
			if (i >= 10 && (bits == 0x05d || bits == 0x5d0))
				sum += 40;
		}
	};
	for (let y = 0; y < size; y++) {
		line(function(x) { return grid[y][x]; });
		line(function(x) { return grid[x][y]; });
		for (let x = 0; x < size; x++) {
			dark += grid[y][x] ? 1 : 0;
			if (x && y && grid[y][x] == grid[y - 1][x] && grid[y][x] == grid[y][x - 1] &&
			    grid[y][x] == grid[y - 1][x - 1])
				sum += 3;
		}
	}
	return sum + Math.floor(Math.abs(dark * 20 / (size * size) - 10)) * 10;
}

return baseclass.extend({
	/* The symbol as rows of booleans, true = dark. Throws if the text is too long. */
	encode: function(text) {
		const bytes = Array.from(new TextEncoder().encode(text));
		let version = 1;
		while (dataCodewords(version) < bytes.length + (version < 10 ? 2 : 3))
			if (++version > EC_CODEWORDS.length)
				throw new Error(_('The text is too long for a QR code.'));
		const codewords = interleave(encodeData(bytes, version), version);
		let best = null, least = Infinity;
		for (let mask = 0; mask < MASKS.length; mask++) {
			const symbol = functionPatterns(version);
			putFormat(symbol, mask);
			putCodewords(symbol, codewords, mask);
			const cost = penalty(symbol.grid);
			if (cost < least) {
				least = cost;
				best = symbol.grid;
			}
		}
		return best;
	},

	/* A canvas with the symbol and its quiet zone of four modules; `scale` is pixels per module. */
	draw: function(text, scale) {
		const rows = this.encode(text);
		const side = (rows.length + 8) * scale;
		const canvas = E('canvas', { 'width': side, 'height': side, 'class': 'mtbox-qr' });
		const pen = canvas.getContext('2d');
		pen.fillStyle = '#fff';
		pen.fillRect(0, 0, side, side);
		pen.fillStyle = '#000';
		rows.forEach(function(row, y) {
			row.forEach(function(dark, x) {
				if (dark)
					pen.fillRect((x + 4) * scale, (y + 4) * scale, scale, scale);
			});
		});
		return canvas;
	}
});
