//! Every file of the corpora, without the fuzzer: what was found once is tried with every run of the tests.

use coconut_fuzz::TARGETS;
use std::fs;
use std::path::Path;

#[test]
fn what_is_in_the_corpora_keeps_every_promise() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let files =
            fs::read_dir(corpora.join(name)).unwrap_or_else(|e| panic!("corpus {name}: {e}"));
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let data = fs::read(&file).unwrap();
            bytes += data.len();
            let tried = std::panic::catch_unwind(|| target(&data));
            assert!(tried.is_ok(), "{}", file.display());
        }
    }
    assert!(bytes < 300_000, "the corpora have {bytes} bytes");
    assert_eq!(fs::read_dir(&corpora).unwrap().count(), TARGETS.len(), "a corpus without a target");
}
