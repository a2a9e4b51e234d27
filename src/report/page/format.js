// Numbers as the program writes them (units.rs).

function figures(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const digits = Math.floor(Math.log10(Math.abs(value) * 1.0005));
  return value.toFixed(Math.min(Math.max(2 - digits, 0), 9));
}

const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "u"]];

function si(value, unit) {
  if (value === 0 || !Number.isFinite(value)) return `${value} ${unit}`;
  const [factor, prefix] = PREFIXES.find(([factor]) => Math.abs(value) >= factor * 0.9995) ?? [1e-9, "n"];
  return `${figures(value / factor)} ${prefix}${unit}`;
}

const percent = (share) => `${(share * 100).toFixed(1)}%`;
const inUnit = (unit) => (value) => si(value, unit);

