#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringpush_fuzz::ws_message(data));
