// What is said of a point, in order: the panel and the comparison show the same.

// A number: its name, its term in the method, where it is in the point, how it is written. Figures of an invalid point
// are not to be read.
const number = (name, term, of, show) => ({ name, term, of: (p) => (invalid(p) ? null : of(p)), show });
// What was run is known even of an invalid point.
const known = (name, term, of, show) => ({ name, term, of, show });
const words = (name, term, of) => ({ name, term, of, show: String, words: true });

const FACTS = [
  number("time", "time", (p) => p.seconds.median, inUnit("s")),
  number("interval, low end", "interval", (p) => (p.seconds.count ? p.seconds.low : null), inUnit("s")),
  number("interval, high end", "interval", (p) => (p.seconds.count ? p.seconds.high : null), inUnit("s")),
  known("samples kept", "sample", (p) => p.seconds.count || null, String),
  known("samples discarded", "sample", (p) => p.seconds.discarded || null, String),
  words("ended by", "sample", (p) => p.seconds.stopped_by),
  known("trials", "trial", (p) => (p.trials.length > 1 ? p.trials.length : null), String),
  number("tokens per second", "rate", (p) => p.tokens_per_second, figures),
  number("all-reduces", "ranks", (p) => p.all_reduce_seconds, inUnit("s")),
  words("all-reduces are", "ranks", (p) => p.all_reduce_from),
  known("ranks", "ranks", (p) => (p.ranks > 1 ? p.ranks : null), String),
  known("bytes", "bytes", (p) => p.bytes, inUnit("B")),
  known("FLOPs", "flops", (p) => p.flops, inUnit("FLOP")),
  known("intensity", "intensity", (p) => p.intensity, inUnit("FLOP/B")),
  number("bandwidth", "bytes", (p) => p.bytes_per_second, inUnit("B/s")),
  number("arithmetic", "flops", (p) => p.flops_per_second, inUnit("FLOP/s")),
  known("memory roof beside it", "roof", (p) => p.roof_bytes_per_second, inUnit("B/s")),
  known("compute roof beside it", "roof", (p) => p.roof_flops_per_second, inUnit("FLOP/s")),
  number("roofs allow", "roof", (p) => p.attainable_flops_per_second, inUnit("FLOP/s")),
  number("of roof", "share-of-roof", (p) => p.fraction_of_roof, percent),
  words("bound by", "bound", (p) => (invalid(p) ? null : p.bound)),
  number("share of step", "share", (p) => p.share_of_step, percent),
  number("bubble", "bubble", (p) => p.bubble_seconds, inUnit("s")),
  number("energy per token", "energy", (p) => p.joules_per_token, inUnit("J")),
  number("traffic by counters", "bytes", (p) => p.witnessed_bytes, inUnit("B")),
  number("host time", "time", (p) => p.wall_seconds, inUnit("s")),
  number("GPU clock", "sample", (p) => p.sm_clock_hz, inUnit("Hz")),
  number("throttled samples", "sample", (p) => p.throttled_samples, String),
  number("matrix units busy", "sample", (p) => p.tensor_activity, percent),
  words("products by", "work", (p) => p.gemm),
  known("context", "work", (p) => p.context, String),
  known("model occupies", "bytes", (p) => p.resident_bytes, inUnit("B")),
  words("types", "work", (p) => (new Set([p.weights, p.activations, p.kv]).size > 1 ? typesOf(p) : p.weights)),
  known("threads", "work", (p) => p.threads, String),
  words("layers measured", "scaled", (p) => `${p.layers_measured} of ${p.layers_total}`),
  words("worth", "status", (p) => (p.status === "ok" ? null : p.status)),
];

const termLink = (fact) => make("a", { href: `#term-${fact.term}` }, fact.name);

