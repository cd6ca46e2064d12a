//! The text of `ringpush check`: the effective configuration, every limit with what happens at it,
//! and the memory that it needs.

use super::limits::SECTION;
use super::{Config, SlowConsumer};
use crate::limits::{DESCRIPTORS_MAX, Line};
use std::fmt::Write;

/// What the running process knows and the configuration does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that the process may use.
    pub cores: u32,
    /// File descriptors that it may open.
    pub descriptors: u32,
}

/// Bytes of the records that are kept per connection, message and entry (`size_of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBytes {
    /// One connection with its session and user.
    pub connection: usize,
    /// One message block, without the message in it.
    pub message_block: usize,
    /// A receipt that waits for a home, without its id.
    pub receipt: usize,
    /// A destination at its home, without its name.
    pub destination: usize,
    /// A callback id that is remembered.
    pub dedupe_key: usize,
    /// Half of one place in the queues of all classes from one thread to another.
    pub entry: usize,
    /// An address whose shares are counted.
    pub address: usize,
}

/// One addend of the footprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addend {
    /// What the memory is for.
    pub what: &'static str,
    /// How many, and the bytes of each.
    pub product: (u64, u64),
}

impl Addend {
    /// Bytes of one shard.
    pub fn bytes(&self) -> u64 {
        self.product.0 * self.product.1
    }
}

/// Shards that will run: as configured, or one per core.
pub fn shards(config: &Config, machine: Machine) -> u32 {
    let most = u32::try_from(crate::limits::SHARDS_MAX).expect("a small number");
    match config.engine.shards {
        0 => machine.cores.clamp(1, most),
        shards => shards,
    }
}

/// Connections that one shard has room for.
pub fn connections(config: &Config, machine: Machine) -> u32 {
    let shards = shards(config, machine);
    // Each ring has a table of its own, which may be as long as RLIMIT_NOFILE.
    let carried = machine.descriptors.min(DESCRIPTORS_MAX);
    match config.limits.connections {
        0 => carried,
        limit => limit.div_ceil(shards).min(carried),
    }
}

/// The memory of one shard when every pool is full, addend by addend.
pub fn footprint(config: &Config, machine: Machine, records: RecordBytes) -> Vec<Addend> {
    let limits = &config.limits;
    // The queues to each thread, including the control thread and the shard itself, and the shard's
    // part of the queues from the control thread. Each counts twice, for the bytes of all classes.
    let threads = shards(config, machine) + 1;
    let queues = 2 * (u64::from(threads) + 2);
    let connections = u64::from(connections(config, machine));
    let deflates = config.endpoints.iter().filter_map(|endpoint| endpoint.deflate);
    let takeover = { deflates }.any(|deflate| deflate.context_takeover);
    let segments = u64::from(limits.segment_bytes / limits.segment_size);
    let may_drop = |policy: SlowConsumer| policy != SlowConsumer::Close;
    let sheds = may_drop(config.slow_consumer) || config.slow.iter().any(|s| may_drop(s.policy));
    let size = |bytes: usize| bytes as u64;
    let addend = |what, count: u64, each: u64| Addend { what, product: (count, each) };
    vec![
        addend("receive buffers", limits.receive_buffers.into(), limits.receive_bytes.into()),
        addend("segments", segments, limits.segment_size.into()),
        // Which frames may be dropped: 16 bytes for each 64 of a segment, at most.
        addend("marks", segments, if sheds { u64::from(limits.segment_size / 4) } else { 0 }),
        addend("held bytes", 1, limits.held_bytes.into()),
        addend("inflate histories", 1, if takeover { limits.inflate_histories.into() } else { 0 }),
        addend("message blocks", limits.message_blocks.into(), size(records.message_block)),
        addend("messages", 1, limits.message_bytes.into()),
        addend("mailboxes", queues * u64::from(limits.mailbox_of(threads)), size(records.entry)),
        addend("connections", connections, size(records.connection)),
        addend("subscriptions", 1, limits.subscribed_bytes.into()),
        addend("receipts", connections * u64::from(limits.receipts), size(records.receipt)),
        addend("destinations", limits.destinations.into(), size(records.destination)),
        addend("dedupe keys", limits.dedupe_keys.into(), size(records.dedupe_key)),
        // One table for all shards.
        addend(
            "addresses",
            limits.share_addresses.div_ceil(threads - 1).into(),
            size(records.address),
        ),
        // A submission entry has 64 bytes, a completion entry 16 (io_uring.h).
        addend("submission queue", limits.submission_entries.into(), 64),
        addend("completion queue", limits.completion_entries.into(), 16),
    ]
}

/// Everything that `ringpush check` prints: a configuration that can be read again, with the
/// meaning of each limit and the memory as comments.
pub fn text(config: &Config, machine: Machine, records: RecordBytes) -> String {
    let mut out = document(config);
    memory(config, machine, records, &mut out);
    out
}

/// The configuration alone.
pub(super) fn document(config: &Config) -> String {
    let mut out = String::new();
    settings(config, &mut out);
    out
}

fn settings(config: &Config, out: &mut String) {
    let limits = config.limits.lines();
    let mut before = None;
    for setting in config.settings() {
        let here = (setting.section, setting.entry.clone());
        if before.as_ref() != Some(&here) {
            let blank = if before.is_some() { "\n" } else { "" };
            let heading = match setting.entry {
                Some(_) => format!("[[{}]]", setting.section),
                None => format!("[{}]", setting.section),
            };
            line(out, format_args!("{blank}{heading}"));
            before = Some(here);
        }
        let text = format!("{} = {}", setting.key, setting.value);
        let of_limit = |limit: &&Line| setting.section == SECTION && limit.key == setting.key;
        match limits.iter().find(of_limit) {
            Some(limit) => line(out, format_args!("{text:<36}# {}", limit.doc)),
            None => line(out, format_args!("{text}")),
        }
    }
}

fn memory(config: &Config, machine: Machine, records: RecordBytes, out: &mut String) {
    let shards = shards(config, machine);
    let addends = footprint(config, machine, records);
    line(out, format_args!("\n# memory of one shard, every pool full"));
    for addend in &addends {
        let (count, each) = addend.product;
        let product = format!("{count} x {each}");
        line(out, format_args!("# {:<18}{product:>20} = {:>12}", addend.what, addend.bytes()));
    }
    let sum: u64 = addends.iter().map(Addend::bytes).sum();
    let total = sum * u64::from(shards);
    line(out, format_args!("# {:<18}{:>20} = {sum:>12}", "one shard", ""));
    let product = format!("{shards} x {sum}");
    line(out, format_args!("# {:<18}{product:>20} = {total:>12}", "all shards"));
    line(out, format_args!("# {:.1} MiB", total as f64 / 1_048_576.0));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const MACHINE: Machine = Machine { cores: 4, descriptors: 100_000 };
    const RECORDS: RecordBytes = RecordBytes {
        connection: 256,
        message_block: 64,
        receipt: 48,
        destination: 96,
        dedupe_key: 64,
        entry: 32,
        address: 20,
    };

    fn embedded() -> Config {
        Sources::default().load().expect("the embedded application is good")
    }

    #[test]
    fn the_embedded_application_is_shown() {
        let text = text(&embedded(), MACHINE, RECORDS);
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        let expected = [
            "[listen]\naddress = [\"127.0.0.1:8080\"]\ntrusted-proxies = []\n\n[engine]\n",
            "\n[[endpoint]]\npath = \"/chat\"\nprotocol = \"raw\"\nallowed-origins = []\n",
            "\non-message.reply = \"来自服务器的消息！\"\n",
            "\nreply = { code = 0, mess = \"服务端返回消息！\" }\n",
            "\nsignature-form = \"sha256={hex}\"\nid = \"/callId\"\nuser = \"/agentId\"\n",
            "\n[limits]\nslow-consumer = \"close\"\n",
            "\nstomp-frame = 65536 # bytes of one whole STOMP frame; past it ERROR",
            "\nsend-time = \"10s\" # age of the oldest byte",
            "\n# receive buffers 2048 x 4096 = 8388608\n",
            "\n# segments 1024 x 65536 = 67108864\n",
            "\n# mailboxes 57344 x 32 = 1835008\n",
            "\n# connections 100000 x 256 = 25600000\n",
            "\n# one shard = 544490496\n",
            "\n# all shards 4 x 544490496 = 2177961984\n# 2077.1 MiB\n",
        ];
        for part in expected {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    /// What is printed is the configuration itself, when it is read with the same secrets.
    fn is_read_again(toml: &str) {
        let names = ["RINGPUSH_TOKEN_SECRET", "RINGPUSH_API_TOKEN", "RINGPUSH_CALLBACK_SECRET"];
        let secret = |name: &str| (name.to_string(), format!("a secret of the tests: {name}"));
        let sources = Sources { environment: names.map(secret).into(), ..Sources::default() };
        let config = sources.parse(toml, false).expect(toml);
        let printed = text(&config, MACHINE, RECORDS);
        let again = sources.parse(&printed, false).expect(&printed);
        assert_eq!(again, config, "{printed}");
        assert_eq!(text(&again, MACHINE, RECORDS), printed);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let every = include_str!("../../examples/every-key.toml");
        let place = |text: &str| every.find(text).expect("it is in the example");
        let stripe = &every[place("signature-form = ")..place("id = \"/callId\"")];
        for toml in ["", every, include_str!("../../examples/call-centre.toml")] {
            is_read_again(toml);
        }
        // Values that are not in the examples.
        for (old, new) in [
            ("[\"HS256\", \"HS384\", \"HS512\"]", "\"HS384\""),
            ("\"topic:/topic/unassigned\"", "\"drop\""),
            ("slow-consumer = \"close\"", "slow-consumer = \"drop-oldest\""),
            ("users = \"authenticated\"", "users = [\"7\", \"8\"]"),
            ("separator = \"/\"", "separator = \".\""),
            ("on-message = { publish = \"/topic/chat\" }", "on-message = { reply = '\"\\' }"),
            ("reply = { code = 0, mess = \"ok\" }", "reply = [1, 1.5, \"a\\nb\", { c = [true] }]"),
            ("reply = { code = 0, mess = \"ok\" }", "reply = \"{\\\"code\\\":0}\""),
            ("deflate = { context-takeover = true, window-bits = 12 }", "deflate = false"),
            ("to-user = \"/queue/sub\"\nbroadcast = false", "broadcast = true"),
            ("code = 0, mess = \"ok\"", "\"a b\" = 1.0, \"键\" = { \"\" = 1e300, c = 07:32:00 }"),
            (stripe, ""),
        ] {
            let changed = every.replacen(old, new, 1);
            assert_ne!(changed, every, "{old} is not in the example");
            is_read_again(&changed);
        }
    }

    #[test]
    fn every_limit_is_shown_with_its_sentence() {
        let config = embedded();
        let text = text(&config, MACHINE, RECORDS);
        for limit in config.limits.lines() {
            let line = text.lines().find(|line| line.starts_with(&format!("{} = ", limit.key)));
            assert!(line.expect(limit.key).ends_with(limit.doc), "{}", limit.key);
        }
    }

    #[test]
    fn shards_and_connections_follow_the_machine_unless_set() {
        let mut config = embedded();
        assert_eq!((shards(&config, MACHINE), connections(&config, MACHINE)), (4, 100_000));
        let small = Machine { cores: 0, descriptors: 1_000 };
        assert_eq!((shards(&config, small), connections(&config, small)), (1, 1_000));
        config.engine.shards = 3;
        config.limits.connections = 10;
        assert_eq!((shards(&config, MACHINE), connections(&config, MACHINE)), (3, 4));
    }

    #[test]
    fn inflate_histories_cost_memory_where_an_endpoint_lets_clients_have_them() {
        let mut config = embedded();
        let windows = |config: &Config| {
            let addends = footprint(config, MACHINE, RECORDS);
            addends.iter().find(|addend| addend.what == "inflate histories").map(Addend::bytes)
        };
        assert_eq!(windows(&config), Some(0));
        let takeover = crate::config::Deflate { context_takeover: true, window_bits: 9 };
        config.endpoints[1].deflate = Some(takeover);
        assert_eq!(windows(&config), Some(16_777_216));
    }

    #[test]
    fn the_total_is_the_sum_of_its_lines() {
        let config = embedded();
        let sum: u64 = footprint(&config, MACHINE, RECORDS).iter().map(Addend::bytes).sum();
        let line = format!("# all shards{:>28} = {:>12}\n", format!("4 x {sum}"), sum * 4);
        let text = text(&config, MACHINE, RECORDS);
        assert!(text.contains(&line), "{line}\n{text}");
    }
}
