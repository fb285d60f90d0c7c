//! Files of other tools: event files byte by byte, CSV of foreign shape, and what is wrong with bad ones.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::interchange::*;
use mtl_bench::{Error, Record, Results};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> Value {
    let path = format!("{}/tests/golden/tensorboard_records.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The events that the golden file was made from.
fn events() -> Vec<Event> {
    let histogram = Histogram {
        min: 0.0,
        max: 3.0,
        num: 4.0,
        sum: 6.0,
        sum_squares: 14.0,
        bucket_limit: vec![1.0, 2.0, 4.0],
        bucket: vec![1.0, 1.0, 2.0],
    };
    let histogram = Summary { tag: "h".into(), data: Data::Histogram(histogram) };
    vec![
        Event::file_version(1.7e9),
        Event::scalar(1_700_000_001.25, 1, "loss/train", 0.5),
        Event::scalar(1_700_000_001.25, 100, "acc/task_0", 0.875),
        Event::scalar(1_700_000_001.25, 2_147_483_653, "Ünï/κ", -0.0015),
        Event { wall_time: 1_700_000_002.0, step: 7, content: Content::Summary(vec![histogram]) },
    ]
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn plain(error: impl std::fmt::Display, path: &Path) -> String {
    error.to_string().replace(&format!("{}/", path.parent().unwrap().display()), "")
}

#[test]
fn event_files_agree_with_tensorboard_byte_by_byte() {
    let golden = golden();
    for row in golden["masked_crc32c"].as_array().unwrap() {
        assert_eq!(u64::from(masked_crc32c(&unhex(&row["bytes_hex"]))), row["value"].as_u64().unwrap());
    }
    let rows = golden["records"].as_array().unwrap();
    let mut whole = Vec::new();
    for row in rows {
        let payload = unhex(&row["payload_hex"]);
        assert_eq!(record_bytes(&payload), unhex(&row["record_hex"]), "{}", row["what"]);
        whole.extend(record_bytes(&payload));
    }
    let (_dir, path) = file("golden.tfevents", &whole);
    let read = read_events(&path).unwrap();
    assert_eq!(read.len(), rows.len());
    for (event, row) in read.iter().zip(rows) {
        assert_eq!(event.encode(), unhex(&row["payload_hex"]), "{}", row["what"]);
        assert_eq!(event.wall_time, row["wall_time"].as_f64().unwrap());
        assert_eq!(event.step, row["step"].as_i64().unwrap());
    }
    assert_eq!(read, events());
    let again = path.with_file_name("again.tfevents");
    write_events(&again, &read).unwrap();
    assert_eq!(std::fs::read(again).unwrap(), whole);
}

#[test]
fn every_cut_and_every_flipped_bit_of_an_event_file_is_noticed() {
    let whole: Vec<u8> = events().iter().flat_map(|e| record_bytes(&e.encode())).collect();
    let starts: Vec<usize> = events()
        .iter()
        .scan(0, |at, e| {
            let start = *at;
            *at += record_bytes(&e.encode()).len();
            Some(start)
        })
        .collect();
    let (_dir, path) = file("x.tfevents", &whole);
    for n in 1..whole.len() {
        std::fs::write(&path, &whole[..n]).unwrap();
        match read_events(&path) {
            Ok(events) => assert!(starts.contains(&n) && !events.is_empty(), "{n} bytes pass"),
            Err(Error::Format { record, message, .. }) => {
                let (i, start) = starts.iter().enumerate().rfind(|(_, s)| **s < n).unwrap();
                assert_eq!(record.unwrap(), format!("record {i} at byte {start}"));
                assert!(message.starts_with("cut off"), "{message}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    // One bit of every byte.
    for bit in (0..whole.len()).map(|byte| 8 * byte + byte % 8) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(read_events(&path), Err(Error::Format { .. })), "bit {bit}");
    }
}

#[test]
fn messages_that_are_no_events_are_named() {
    let version = Event::file_version(1.0).encode();
    let cases: [(&str, &[u8]); 9] = [
        ("unknown wire type", &[0x0B]),
        ("field 0", &[0x00, 0x00]),
        ("endless varint", &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("length beyond the end", &[0x2A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00]),
        ("short double", &[0x09, 0x00]),
        ("step as text", &[0x12, 0x01, 0x41]),
        ("tag not UTF-8", &[0x2A, 0x05, 0x0A, 0x03, 0x0A, 0x01, 0xFF]),
        ("counts without limits", &[0x2A, 0x0E, 0x0A, 0x0C, 0x2A, 0x0A, 0x3A, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("ragged doubles", &[0x2A, 0x09, 0x0A, 0x07, 0x2A, 0x05, 0x3A, 0x03, 0, 0, 0]),
    ];
    let mut found = Vec::new();
    for (what, payload) in cases {
        let bytes = [record_bytes(&version), record_bytes(payload)].concat();
        let (_dir, path) = file("x.tfevents", &bytes);
        found.push(format!("{what}: {}", plain(read_events(&path).unwrap_err(), &path)));
    }
    let (_dir, path) = file("x.tfevents", &record_bytes(&Event::scalar(1.0, 1, "a", 1.0).encode()));
    found.push(plain(read_events(&path).unwrap_err(), &path));
    insta::assert_snapshot!(found.join("\n"), @r#"
    unknown wire type: `x.tfevents`, record 1 at byte 40: field 1 has the unknown wire type 3
    field 0: `x.tfevents`, record 1 at byte 40: no field 0
    endless varint: `x.tfevents`, record 1 at byte 40: a number has more than 64 bits
    length beyond the end: `x.tfevents`, record 1 at byte 40: a field of 4294967295 bytes ends 4294967294 bytes after the message
    short double: `x.tfevents`, record 1 at byte 40: a field of 8 bytes ends 7 bytes after the message
    step as text: `x.tfevents`, record 1 at byte 40: field 2 of the event has a wrong type
    tag not UTF-8: `x.tfevents`, record 1 at byte 40: `tag` is not UTF-8
    counts without limits: `x.tfevents`, record 1 at byte 40: a histogram has 1 counts for 0 limits
    ragged doubles: `x.tfevents`, record 1 at byte 40: expected packed doubles, found Bytes([0, 0, 0])
    `x.tfevents`, record 0: the first event must name the file version, such as `brain.Event:2`
    "#);
    let (_dir, path) = file("x.tfevents", b"");
    assert_eq!(read_events(&path).unwrap(), []);
    assert!(read_events(&path.with_file_name("none")).is_err());
}

#[test]
fn scalars_inside_tensors_are_read() {
    // summary { value { tag: "t" tensor { dtype: FLOAT tensor_shape {} float_val: 0.5 } } }, then as content bytes.
    let packed = [0x08, 1, 0x12, 0, 0x2A, 4, 0, 0, 0, 0x3F];
    let content = [0x08, 2, 0x12, 0, 0x22, 8, 0, 0, 0, 0, 0, 0, 0xE0, 0x3F];
    let text = [0x08, 7, 0x12, 0, 0x42, 1, 0x41];
    let wrap = |field: u8, inner: &[u8]| [&[field, inner.len() as u8], inner].concat();
    let mut bytes = record_bytes(&Event::file_version(1.0).encode());
    for tensor in [&packed[..], &content, &text] {
        let value = [wrap(0x0A, b"t"), wrap(0x42, tensor)].concat();
        bytes.extend(record_bytes(&wrap(0x2A, &wrap(0x0A, &value))));
    }
    let (_dir, path) = file("x.tfevents", &bytes);
    let data: Vec<Data> = read_events(&path)
        .unwrap()
        .into_iter()
        .filter_map(|e| if let Content::Summary(mut v) = e.content { v.pop().map(|s| s.data) } else { None })
        .collect();
    assert_eq!(data, [Data::Scalar(0.5), Data::Scalar(0.5), Data::Other]);
}

#[test]
fn a_run_passes_through_an_event_file() {
    let run = Record::new("accuracy", 0.0).method("pcgrad").seed(3);
    let at = |task: &str, step, value| Record { task: task.into(), step, value, ..run.clone() };
    let results =
        Results::from_records([at("parity", 10, 0.5), at("parity", 20, 0.75), at("", 20, 0.25)]).unwrap();
    let (_dir, path) = file("x.tfevents", b"");
    write_events(&path, &events_of_run(&results, 0.0).unwrap()).unwrap();
    assert_eq!(records_of_events(&read_events(&path).unwrap(), &run).unwrap(), results);
    let two = Results::from_records([at("", 1, 0.5), Record { seed: 4, ..at("", 1, 0.5) }]).unwrap();
    assert!(matches!(events_of_run(&two, 0.0), Err(Error::Ambiguous { count: 2, .. })));
    assert!(matches!(events_of_run(&Results::default(), 0.0), Err(Error::Missing { .. })));
    let errors = [
        events_of_run(&Results::from_records([at("", 1, 1e300)]).unwrap(), 0.0).unwrap_err().to_string(),
        events_of_run(&Results::from_records([at("", u64::MAX, 1.0)]).unwrap(), 0.0).unwrap_err().to_string(),
        records_of_events(&[Event::scalar(0.0, 4, "loss/a", f32::NAN)], &run).unwrap_err().to_string(),
        records_of_events(&[Event::scalar(0.0, -4, "loss", 1.0)], &run).unwrap_err().to_string(),
        records_of_events(&[Event::scalar(0.0, 1, "loss", 1.0), Event::scalar(9.0, 1, "loss", 1.0)], &run)
            .unwrap_err()
            .to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    `value` must be within the range of 32-bit floats, but is 1e300
    `step` must be below 2^63, but is 18446744073709551615
    `scalar` of task `loss/a`: the value at step 4 is NaN
    `scalar` of task `loss`: step -4 is negative
    2 values of `loss`, method `pcgrad`, seed 3, step 1 where one is expected; filter by setting, task or step first
    "#);
}

#[test]
fn long_csv_of_any_column_names() {
    let text = "\u{feff}model;run;data;score;remark\nmtl;1;parity;0.9;\"a; b\"\nmtl;2.0;parity; 0.8 ;\n";
    let (_dir, path) = file("x.csv", text.as_bytes());
    let map = ColumnMap::new("score", Field::fixed("accuracy"))
        .method(Field::column("model"))
        .seed(Field::column("run"))
        .task(Field::column("data"))
        .study(Field::fixed("imported"))
        .delimiter(b';');
    let expected = [(1, 0.9), (2, 0.8)].map(|(seed, value)| Record {
        study: "imported".into(),
        ..Record::new("accuracy", value).method("mtl").task("parity").seed(seed)
    });
    assert_eq!(read_long_csv(&path, &map).unwrap(), Results::from_records(expected).unwrap());
    let mlflow = "key,value,timestamp,step\nloss,0.5,1700000000000,1\nloss,0.25,1700000000001,2\nacc,1e-1,1700000000001,2\n";
    let (_dir, path) = file("x.csv", mlflow.as_bytes());
    let read =
        read_long_csv(&path, &ColumnMap::mlflow().method(Field::fixed("m")).seed(Field::fixed(7))).unwrap();
    assert_eq!(read.metric("loss").last_step().by_seed().unwrap()[&7], 0.25);
    assert_eq!(read.metric("acc").estimate(0.95).unwrap().mean, 0.1);
}

#[test]
fn wide_csv_of_a_run_and_of_a_chart() {
    let history = "_step,loss,val/acc,_runtime\n0,1.5,,3\n1,1.25,0.5,4\n2,null,0.75,5\n";
    let (_dir, path) = file("x.csv", history.as_bytes());
    let run = Record::new("", 0.0).method("pcgrad").seed(3);
    let map =
        WideMap::new("_step").run(run).metric("loss", "loss", "").metric("val/acc", "accuracy", "parity");
    let read = read_wide_csv(&path, &map).unwrap();
    assert_eq!(read.len(), 4);
    assert_eq!(read.metric("accuracy").task("parity").steps(), [1, 2]);
    assert_eq!(read.metric("loss").last_step().by_seed().unwrap()[&3], 1.25);
    assert_eq!(read_wide_csv(&path, &WideMap::new("_step")).unwrap().len(), 7);
    let chart = "Step,a - b - loss,a - b - loss__MIN,a - b - loss__MAX,c - loss\n10,0.5,0.5,0.5,NaN\n";
    let (_dir, path) = file("x.csv", chart.as_bytes());
    let read = read_wide_csv(&path, &WideMap::wandb_chart().skip_non_finite()).unwrap();
    assert_eq!(read.records(), [Record::new("loss", 0.5).method("a - b").step(10)]);
    assert!(
        read_wide_csv(&path, &WideMap::wandb_chart())
            .unwrap_err()
            .to_string()
            .contains("`c - loss` must be a finite")
    );
}

#[test]
fn faults_of_foreign_csv_name_line_and_column() {
    let long = |text: &[u8]| {
        let (_dir, path) = file("x.csv", text);
        let map = ColumnMap::mlflow();
        plain(read_long_csv(&path, &map).unwrap_err(), &path)
    };
    let wide = |text: &[u8]| {
        let (_dir, path) = file("x.csv", text);
        plain(read_wide_csv(&path, &WideMap::new("step")).unwrap_err(), &path)
    };
    let found = [
        long(b""),
        long(b"key,val,step\n"),
        long(b"key,value,step,key\n"),
        long(b"key,value,step\na,1,2\na,b\n"),
        long(b"key,value,step\na,1;2,2\n"),
        long(b"key,value,step\n\na,inf,2\n"),
        long(b"key,value,step\na,\"1\n2\",3\n"),
        long(b"key,value,step\na,1,2.5\n"),
        long(b"key,value,step\na,1,-1\n"),
        long(b"key,value,step\na,1,1e300\n"),
        long(b"key,value,step\na,,1\n"),
        long(b"key,value,step\n\xff\xfe,1,1\n"),
        long(b"key,value,step\na,1,1\na,2,1\n"),
        wide(b"step\n1\n"),
        wide(b"step,loss\n1,high\n"),
        wide(b"step,loss\n,1\n"),
        wide(b"step,loss\n1,1\n1,2\n"),
    ];
    insta::assert_snapshot!(found.join("\n"), @r#"
    `x.csv` line 1: there is no header
    unknown column `value`; did you mean `val`?
    `x.csv` line 1: two columns are called `key`
    `x.csv` line 3: a row must have 3 cells, but this one has 2
    `x.csv` line 2: `value` must be a finite number, but is `1;2`
    `x.csv` line 2: `value` must be a finite number, but is `inf`
    `x.csv` line 2: `value` must be a finite number, but is `1
    2`
    `x.csv` line 2: `step` must be a whole number from 0 up, but is `2.5`
    `x.csv` line 2: `step` must be a whole number from 0 up, but is `-1`
    `x.csv` line 2: `step` must be a whole number from 0 up, but is `1e300`
    `x.csv` line 2: `value` must be a finite number, but is ``
    `x.csv` line 2: the text is not UTF-8
    2 values of `a`, seed 0, step 1 where one is expected; filter by setting, task or step first
    no records of a metric beside the column `step`
    `x.csv` line 2: `loss` must be a finite number, but is `high`
    `x.csv` line 2: `step` must be a whole number from 0 up, but is ``
    2 values of `loss`, seed 0, step 1 where one is expected; filter by setting, task or step first
    "#);
}
