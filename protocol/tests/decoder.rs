//! The decoder against what a peer may get wrong, on purpose or not.

use std::fs;
use std::path::Path;

use lighter_protocol::*;
use proptest::prelude::*;

fn frame(kind: u8, json: &str) -> Frame {
    Frame {
        kind,
        body: json.as_bytes().to_vec(),
    }
}

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[test]
fn length_beyond_the_limit_is_refused_from_its_four_bytes() {
    let mut decoder = Decoder::with_limit(16);
    decoder.push(&[17, 0, 0, 0]);
    let expected = FrameError::TooLong {
        length: 17,
        limit: 16,
    };
    assert_eq!(decoder.next_frame().unwrap_err(), expected);
    decoder.push(b"\x02\0\0\0\x10x");
    assert_eq!(
        decoder.next_frame().unwrap_err(),
        expected,
        "a broken stream stays broken"
    );
}

#[test]
fn frame_without_a_type_is_refused() {
    let mut decoder = Decoder::new();
    decoder.push(&[0; 4]);
    assert_eq!(decoder.next_frame().unwrap_err(), FrameError::Empty);
}

#[test]
fn longest_frame_passes_and_one_more_byte_is_not_sent() {
    let body = vec![b' '; MAX_FRAME as usize - 1];
    let bytes = encode_frame(1, &body).unwrap();
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    assert_eq!(decoder.next_frame().unwrap(), Some(Frame { kind: 1, body }));

    let error = encode_frame(1, &vec![0; MAX_FRAME as usize]).unwrap_err();
    assert_eq!(
        error,
        FrameError::TooLong {
            length: MAX_FRAME + 1,
            limit: MAX_FRAME
        }
    );
}

#[test]
fn raw_bytes_after_a_frame_are_handed_back() {
    let mut bytes = Message::from(Opened::Dial { peer: "p".into() })
        .encode()
        .unwrap();
    bytes.extend_from_slice(b"raw bytes");
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    assert!(decoder.next_message().unwrap().is_some());
    assert_eq!(decoder.into_rest(), b"raw bytes");
}

#[test]
fn end_inside_a_frame_is_seen() {
    let mut decoder = Decoder::new();
    decoder.push(&[9, 0, 0, 0, 1]);
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert!(decoder.is_partial());
}

#[test]
fn other_version_is_named_even_when_nothing_else_can_be_read() {
    for kind in [0x01, 0x02] {
        let error = Message::decode(&frame(kind, r#"{"version":99,"new":[1]}"#)).unwrap_err();
        assert!(matches!(error, MessageError::Version { theirs: 99, .. }));
        assert_eq!(
            error.to_string(),
            "peer speaks protocol 99, this program speaks 1 to 1"
        );
    }
}

#[test]
fn unknown_type_is_a_typed_error_and_the_stream_goes_on() {
    let mut bytes = encode_frame(0xEE, b"{}").unwrap();
    bytes.extend(Message::from(Health { seq: 1 }).encode().unwrap());
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    assert!(matches!(
        decoder.next_message(),
        Err(MessageError::UnknownType(0xEE))
    ));
    assert_eq!(
        decoder.next_message().unwrap(),
        Some(Health { seq: 1 }.into())
    );
}

#[test]
fn unknown_fields_and_new_choices_are_tolerated() {
    let message = Message::decode(&frame(0x10, r#"{"seq":1,"later":{}}"#)).unwrap();
    assert_eq!(message, Health { seq: 1 }.into());
    let json = format!(r#"{{"secret":"{SECRET}","request":{{"kind":"teleport","to":"x"}}}}"#);
    let Message::Open(open) = Message::decode(&frame(0x40, &json)).unwrap() else {
        panic!()
    };
    assert_eq!(open.request, Request::Unknown);
    let json = r#"{"code":"newer","message":""}"#;
    let Message::Failed(failed) = Message::decode(&frame(0x42, json)).unwrap() else {
        panic!()
    };
    assert_eq!(failed.code, FailedCode::Other);
}

#[test]
fn hostile_opens_are_refused() {
    let dial = |host: &str, port: u16| {
        format!(
            r#"{{"secret":"{SECRET}","request":{{"kind":"dial","host":{host},"port":{port},"purpose":{{"purpose":"registry","user_named":false,"registry":"r"}}}}}}"#
        )
    };
    let long = format!("\"{}\"", "a".repeat(256));
    for (host, port) in [
        ("\"\"", 443),
        ("\"a b\"", 443),
        ("\"a\\u0000b\"", 443),
        ("\"a/b\"", 443),
        ("\"a\\r\\nHost: b\"", 443),
        ("\"h\"", 0),
        (&long, 443),
    ] {
        let error = Message::decode(&frame(0x40, &dial(host, port))).unwrap_err();
        assert!(
            matches!(error, MessageError::Bounds { name: "Open", .. }),
            "{host}: {error}"
        );
    }
    for path in ["", "/a\\u0000b", &"/a".repeat(3000)] {
        let json = format!(
            r#"{{"secret":"{SECRET}","request":{{"kind":"activate_share","path":"{path}","read_only":true}}}}"#
        );
        let error = Message::decode(&frame(0x40, &json)).unwrap_err();
        assert!(matches!(error, MessageError::Bounds { .. }), "{error}");
    }
}

#[test]
fn secret_is_exactly_64_digits_and_never_shown() {
    let secret = Secret::from_hex(SECRET).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    assert_eq!(secret.to_hex(), SECRET);
    assert!(Secret::from_hex(&SECRET[2..]).is_err());
    assert!(Secret::from_hex(&format!("{SECRET}00")).is_err());
    assert!(Secret::from_hex(&SECRET.replace('0', "g")).is_err());
    let mut other = *secret.bytes();
    other[31] ^= 1;
    assert_ne!(secret, Secret::new(other));
}

#[test]
fn corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        fuzz_decoder(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 8, "the corpus is missing");
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        fuzz_decoder(&bytes);
    }

    #[test]
    fn framed_json(
        kind in prop_oneof![0u8..0x50, any::<u8>()],
        json in "\\{(\"(seq|version|secret|request|boot|code|message|reason)\":(1|null|\"x\"|\\[\\]|\\{\"kind\":\"dial\"\\}),?){0,4}\\}",
    ) {
        fuzz_decoder(&encode_frame(kind, json.as_bytes()).unwrap());
    }

    #[test]
    fn cut_anywhere(cut in 0usize..400) {
        let golden = Message::from(Refused {
            version: 1,
            code: RefusedCode::Disk,
            message: "m".repeat(300),
        });
        let bytes = golden.encode().unwrap();
        let (left, right) = bytes.split_at(cut.min(bytes.len()));
        let mut decoder = Decoder::new();
        decoder.push(left);
        let early = decoder.next_message().unwrap();
        prop_assert_eq!(early.is_some(), right.is_empty());
        decoder.push(right);
        if !right.is_empty() {
            prop_assert_eq!(decoder.next_message().unwrap(), Some(golden));
        }
    }
}
