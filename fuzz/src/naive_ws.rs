//! A slow decoder for RFC 6455: all bytes at once, a copy of everything, no state between calls. It
//! shares no code with the decoder that it is compared with.

/// The result of a stream of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The whole messages and control frames.
    pub seen: Vec<Seen>,
    /// The message that is still open, if a chunk of it has arrived.
    pub open: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// A whole message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A message: is it text, is it compressed, its bytes.
    Message(bool, bool, Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
}

/// How a stream ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// This many bytes at its end are an incomplete head or control frame.
    #[default]
    Open,
    /// A Close frame.
    Closed(Option<u16>, String),
    /// A fault, by its label.
    Fault(&'static str),
}

/// How the stream is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Frames must be masked.
    pub masked: bool,
    /// RSV1 is allowed on first frames.
    pub compression: bool,
    /// Bytes of the longest message.
    pub message_max: u32,
}

/// The open message.
struct Message {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
    announced: u128,
}

/// Reads a stream from its beginning.
pub fn read(mut input: &[u8], options: Options) -> Trace {
    let mut trace = Trace::default();
    let mut message: Option<Message> = None;
    loop {
        match frame(&mut input, options, &mut message, &mut trace) {
            Ok(true) => {}
            Ok(false) => break,
            Err(end) => {
                trace.end = end;
                break;
            }
        }
    }
    trace.open = message.map_or(Vec::new(), |message| message.bytes);
    trace
}

/// One frame, or as much of its payload as is there. `Ok(false)`: there is no more.
fn frame(
    input: &mut &[u8],
    options: Options,
    message: &mut Option<Message>,
    trace: &mut Trace,
) -> Result<bool, End> {
    let fault = |label| Err(End::Fault(label));
    if input.len() < 2 {
        return Ok(false);
    }
    let (fin, opcode) = (input[0] >= 128, input[0] % 16);
    let (masked, short) = (input[1] >= 128, input[1] % 128);
    let control = opcode >= 8;
    let compressed = begin(input[0], input[1], options, message.is_some())?;
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if input.len() < 2 + extended {
        return Ok(false);
    }
    let mut len = if extended == 0 { u128::from(short) } else { 0 };
    for byte in &input[2..2 + extended] {
        len = len * 256 + u128::from(*byte);
    }
    if len >= 1 << 63 {
        return fault("length-high-bit");
    }
    if (extended == 2 && len < 126) || (extended == 8 && len < 65_536) {
        return fault("length-not-minimal");
    }
    let before = message.as_ref().map_or(0, |message| message.announced);
    if !control && before + len > u128::from(options.message_max) {
        return fault("message-too-big");
    }
    let head = 2 + extended + if masked { 4 } else { 0 };
    if input.len() < head {
        return Ok(false);
    }
    let mut payload = input[head..].to_vec();
    payload.truncate(usize::try_from(len).expect("below message_max"));
    let whole = payload.len() as u128 == len;
    if masked {
        let key = &input[head - 4..head];
        payload = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
    }
    if control && !whole {
        return Ok(false);
    }
    *input = &input[head + payload.len()..];
    if control {
        return self::control(opcode, payload, trace).map(|()| true);
    }
    let fresh = Message { text: opcode == 1, compressed, bytes: Vec::new(), announced: 0 };
    let open = message.get_or_insert(fresh);
    open.announced += len;
    open.bytes.extend(payload);
    let ends = fin && whole;
    if open.text && !open.compressed && !text_may_be(&open.bytes, ends) {
        return fault("text-not-utf8");
    }
    if ends {
        let done = message.take().expect("it is open");
        trace.seen.push(Seen::Message(done.text, done.compressed, done.bytes));
    }
    Ok(whole)
}

/// The first two bytes of a frame. Returns whether it begins a compressed message.
fn begin(first: u8, second: u8, options: Options, open: bool) -> Result<bool, End> {
    let (fin, rsv, opcode) = (first >= 128, first / 16 % 8, first % 16);
    let (masked, short) = (second >= 128, second % 128);
    let control = opcode >= 8;
    let compressed = rsv == 4 && options.compression && (opcode == 1 || opcode == 2);
    let faults = [
        (!matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10), "reserved-opcode"),
        (rsv != 0 && !compressed, "reserved-bits"),
        (masked && !options.masked, "masked"),
        (!masked && options.masked, "not-masked"),
        (control && !fin, "control-fragmented"),
        (control && short > 125, "control-too-long"),
        (opcode == 0 && !open, "continuation-unexpected"),
        ((opcode == 1 || opcode == 2) && open, "continuation-expected"),
    ];
    match faults.iter().find(|(wrong, _)| *wrong) {
        Some((_, label)) => Err(End::Fault(label)),
        None => Ok(compressed),
    }
}

fn control(opcode: u8, payload: Vec<u8>, trace: &mut Trace) -> Result<(), End> {
    match opcode {
        9 => trace.seen.push(Seen::Ping(payload)),
        10 => trace.seen.push(Seen::Pong(payload)),
        _ => {
            if payload.is_empty() {
                return Err(End::Closed(None, String::new()));
            }
            if payload.len() == 1 {
                return Err(End::Fault("close-length"));
            }
            let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
            let local = [1004, 1005, 1006].contains(&code);
            let known = (1000..1015).contains(&code) || (3000..5000).contains(&code);
            if local || !known {
                return Err(End::Fault("close-code"));
            }
            return Err(match String::from_utf8(payload[2..].to_vec()) {
                Ok(reason) => End::Closed(Some(code), reason),
                Err(_) => End::Fault("close-reason"),
            });
        }
    }
    Ok(())
}

/// Whether these bytes are a text, or may become one with more bytes.
fn text_may_be(bytes: &[u8], ends: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !ends && error.error_len().is_none(),
    }
}
