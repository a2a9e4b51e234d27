//! The embedded profiles against published figures, and profiles from a folder.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use llmroof::error::Code;
use llmroof::model::DType;
use llmroof::profiles::Catalog;

/// name; dense bf16, fp8, int8 in TFLOP/s; GB/s; L2 MB; SMs; W; GB
type Card = (&'static str, f64, Option<f64>, Option<f64>, f64, f64, f64, f64, f64);

const CARDS: [Card; 15] = [
    ("a100-sxm4-40gb", 312.0, None, Some(624.0), 1555.0, 40.0, 108.0, 400.0, 40.0),
    ("a100-sxm4-80gb", 312.0, None, Some(624.0), 2039.0, 40.0, 108.0, 400.0, 80.0),
    ("a100-pcie-40gb", 312.0, None, Some(624.0), 1555.0, 40.0, 108.0, 250.0, 40.0),
    ("a100-pcie-80gb", 312.0, None, Some(624.0), 1935.0, 40.0, 108.0, 300.0, 80.0),
    ("h100-sxm5", 989.4, Some(1979.0), Some(1979.0), 3350.0, 50.0, 132.0, 700.0, 80.0),
    ("h100-pcie", 756.5, Some(1513.0), Some(1513.0), 2000.0, 50.0, 114.0, 350.0, 80.0),
    ("h100-nvl", 835.0, Some(1671.0), Some(1671.0), 3900.0, 50.0, 132.0, 400.0, 94.0),
    ("h200-sxm", 989.4, Some(1979.0), Some(1979.0), 4800.0, 50.0, 132.0, 700.0, 141.0),
    ("b200", 2250.0, Some(4500.0), Some(4500.0), 7700.0, 126.0, 148.0, 1000.0, 180.0),
    ("l4", 121.0, Some(242.0), Some(242.0), 300.0, 48.0, 58.0, 72.0, 24.0),
    ("l40s", 362.0, Some(733.0), Some(733.0), 864.0, 96.0, 142.0, 350.0, 48.0),
    ("a10", 125.0, None, Some(250.0), 600.0, 6.0, 72.0, 150.0, 24.0),
    ("rtx-3090", 71.0, None, None, 936.0, 6.0, 82.0, 350.0, 24.0),
    ("rtx-4090", 165.2, Some(330.0), None, 1008.0, 72.0, 128.0, 450.0, 24.0),
    ("rtx-5090", 209.5, Some(419.0), None, 1792.0, 96.0, 170.0, 575.0, 32.0),
];

fn catalog() -> Catalog {
    Catalog::load(None).unwrap()
}

#[test]
fn cards_have_their_datasheet_figures() {
    let catalog = catalog();
    assert_eq!(catalog.devices().count(), CARDS.len(), "a new card needs its line in this table");
    for (name, bf16, fp8, int8, bandwidth, cache, units, power, memory) in CARDS {
        let card = catalog.device(name).unwrap();
        let peak = |dtype| card.peak.get(&dtype).map(|fact| fact.value / 1e12);
        assert_eq!(
            (peak(DType::Bf16), peak(DType::Fp8), peak(DType::Int8)),
            (Some(bf16), fp8, int8),
            "{name}"
        );
        assert_eq!(
            (card.memory_bandwidth.value, card.memory.value),
            (bandwidth * 1e9, memory * 1e9),
            "{name}"
        );
        assert_eq!(card.cache.value, cache * 1e6, "{name}");
        assert_eq!((card.units.value, card.power.value), (units, power), "{name}");
    }
}

#[test]
fn peaks_say_that_they_are_dense() {
    for card in catalog().devices() {
        for (dtype, fact) in &card.peak {
            assert!(fact.source.contains("dense"), "{} {dtype}: {}", card.name, fact.source);
        }
    }
}

#[test]
fn no_driver_name_means_two_cards() {
    let catalog = catalog();
    let mut names: Vec<&String> = catalog.devices().flat_map(|card| &card.driver_names).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_card_is_found_by_its_exact_driver_name_only() {
    let catalog = catalog();
    assert_eq!(catalog.device_of_driver("NVIDIA A10").unwrap().name, "a10");
    // Another card, with a lower peak, that other tools take for the A10.
    assert!(catalog.device_of_driver("NVIDIA A10G").is_none());
}

#[test]
fn models_have_their_published_parameter_counts() {
    let counts = [
        ("llama-1b", 1_235_814_400.0),
        ("llama-3b", 3_212_749_824.0),
        ("llama2-7b", 6_738_415_616.0),
        ("llama-8b", 8_030_261_248.0),
        ("llama2-13b", 13_015_864_320.0),
        ("llama-70b", 70_553_706_496.0),
        ("llama-405b", 405_853_388_800.0),
    ];
    let catalog = catalog();
    let models: Vec<(&str, f64)> =
        catalog.models().into_iter().map(|m| (m.name.as_str(), m.parameters())).collect();
    assert_eq!(models, counts);
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_folder_adds_and_replaces_profiles() {
    let folder = tempfile::tempdir().unwrap();
    let l4 = include_str!("../profiles/devices/l4.toml");
    write(folder.path(), "devices/mine.toml", &l4.replace("name = \"l4\"", "name = \"Mine\""));
    write(folder.path(), "devices/l4.toml", &l4.replace("300.0e9", "299.0e9"));
    let catalog = Catalog::load(Some(folder.path())).unwrap();
    assert_eq!(catalog.device("mine").unwrap().memory_bandwidth.value, 300e9);
    assert_eq!(catalog.device("l4").unwrap().memory_bandwidth.value, 299e9);
    assert!(catalog.model("llama-8b").is_ok());
}

/// What loading says of an L4 in whose file `from` became `to`.
fn complaint(from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../profiles/devices/l4.toml");
    assert!(text.contains(from));
    write(folder.path(), "devices/bad.toml", &text.replace(from, to));
    let failure = Catalog::load(Some(folder.path())).unwrap_err();
    assert_eq!(failure.code, Code::BadInput);
    let said = failure.to_string();
    assert!(said.contains("bad.toml") && said.contains("hint:") && !said.contains('\n'), "{said}");
    said
}

#[test]
fn a_wrong_profile_is_named_with_line_or_field() {
    let said = complaint("300.0e9", "-300.0e9");
    assert!(said.contains("memory_bandwidth of l4 is -300000000000"), "{said}");
    let said = complaint("value = 300.0e9", "value = \"fast\"");
    assert!(said.contains("line 5") && said.contains("string \"fast\""), "{said}");
    let said = complaint("power =", "pwr =");
    assert!(said.contains("unknown field `pwr`"), "{said}");
    let said = complaint("name = \"l4\"", "name = \"my l4\"");
    assert!(said.contains("name \"my l4\" cannot be used"), "{said}");
    let said = complaint("bf16 =", "f16 =");
    assert!(said.contains("no bf16 peak"), "{said}");
}

#[test]
fn a_config_json_is_named_after_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rope_theta": 500000.0}"#;
    write(folder.path(), "My-Llama/config.json", config);
    let model_folder = folder.path().join("My-Llama");
    for path in [model_folder.clone(), model_folder.join("config.json")] {
        let model = catalog().model(path.to_str().unwrap()).unwrap();
        assert_eq!((model.name.as_str(), model.parameters()), ("My-Llama", 8_030_261_248.0));
    }
}

#[test]
fn unknown_names_get_the_nearest() {
    let catalog = catalog();
    let said = catalog.device("h200").unwrap_err().to_string();
    assert!(said.contains("did you mean h200-sxm?"), "{said}");
    let said = catalog.model("lama-8b").unwrap_err().to_string();
    assert!(said.contains("did you mean llama-8b?"), "{said}");
    let said = catalog.device("xyz").unwrap_err().to_string();
    assert!(!said.contains("did you mean") && said.contains("llmroof devices"), "{said}");
}

/// The memory clock in MHz and the bus width that drivers report of each card, and its memory in bytes.
const REPORTED: [(&str, f64, f64, f64); 15] = [
    ("a100-sxm4-40gb", 1215.0, 5120.0, 42_298_834_944.0),
    ("a100-sxm4-80gb", 1593.0, 5120.0, 85_097_971_712.0),
    ("a100-pcie-40gb", 1215.0, 5120.0, 42_298_834_944.0),
    ("a100-pcie-80gb", 1512.0, 5120.0, 85_097_971_712.0),
    ("h100-sxm5", 2619.0, 5120.0, 85_028_896_768.0),
    ("h100-pcie", 1593.0, 5120.0, 85_028_896_768.0),
    ("h100-nvl", 2619.0, 6016.0, 100_000_000_000.0),
    ("h200-sxm", 3201.0, 6144.0, 150_109_880_320.0),
    ("b200", 3996.0, 8192.0, 191_500_000_000.0),
    ("l4", 6251.0, 192.0, 23_600_000_000.0),
    ("l40s", 9001.0, 384.0, 47_700_000_000.0),
    ("a10", 6251.0, 384.0, 23_700_000_000.0),
    ("rtx-3090", 9751.0, 384.0, 25_438_126_080.0),
    ("rtx-4090", 10501.0, 384.0, 25_386_352_640.0),
    ("rtx-5090", 14001.0, 512.0, 34_190_000_000.0),
];

fn bandwidth(megahertz: f64, bits: f64) -> Option<f64> {
    Some(megahertz * 1e6 * 2.0 * bits / 8.0)
}

#[test]
fn every_card_is_taken_for_itself_and_for_no_other() {
    let catalog = catalog();
    assert_eq!(REPORTED.len(), catalog.devices().count());
    for (name, clock, bits, memory) in REPORTED {
        let card = catalog.device(name).unwrap();
        for driver_name in &card.driver_names {
            let found = catalog.device_for(driver_name, memory, bandwidth(clock, bits)).unwrap();
            assert_eq!(found.name, name);
            // The same name on another card's memory is nobody, or at least not that other card.
            for (other, clock, bits, memory) in REPORTED {
                if let Ok(found) = catalog.device_for(driver_name, memory, bandwidth(clock, bits)) {
                    assert_eq!(found.name, name, "{driver_name} with the memory of {other}");
                }
            }
        }
    }
}

#[test]
fn a_card_that_is_not_the_profiles_says_why() {
    let catalog = catalog();
    let why =
        |name: &str, memory: f64, rate: Option<f64>| catalog.device_for(name, memory, rate).unwrap_err();
    let fast = bandwidth(1593.0, 5120.0);
    // A 40 GB card with an 80 GB card's name, by its memory and by its clock.
    let said = why("NVIDIA A100-SXM4-80GB", 42.3e9, fast);
    assert!(said.contains("42.3 GB") && said.contains("a100-sxm4-80gb 80.0 GB"), "{said}");
    let said = why("NVIDIA A100-SXM4-80GB", 85.1e9, bandwidth(1215.0, 5120.0));
    assert!(said.contains("1555 GB/s") && said.contains("2039"), "{said}");
    assert!(why("NVIDIA A10G", 23.7e9, bandwidth(6251.0, 384.0)).contains("A10G"));
    assert!(why("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10.2e9, fast).contains("slice"));
    assert!(why("NVIDIA A100-SXM4-80GB", 85.1e9, None).contains("does not say"));
    for odd in [f64::NAN, f64::INFINITY, 0.0, -85.1e9] {
        assert!(catalog.device_for("NVIDIA A100-SXM4-80GB", odd, fast).is_err());
        assert!(catalog.device_for("NVIDIA A100-SXM4-80GB", 85.1e9, Some(odd)).is_err());
    }
}

/// Card; read bandwidth, bf16 products, decode.
type Shares = (&'static str, Option<f64>, Option<f64>, Option<f64>);

/// Lowest published shares of healthy cards: read bandwidth and bf16 products of the datasheet, decode of the read
/// bandwidth. Figures as measured over the datasheet's.
const PUBLISHED: [Shares; 7] = [
    ("a100-sxm4-80gb", Some(1730.0 / 2039.0), Some(258.0 / 312.0), Some(1397.0 / 1769.0)),
    ("a100-sxm4-40gb", Some(1730.0 / 2039.0), Some(258.0 / 312.0), Some(1397.0 / 1769.0)),
    ("a100-pcie-80gb", Some(1730.0 / 2039.0), None, Some(1397.0 / 1769.0)),
    ("a100-pcie-40gb", Some(1730.0 / 2039.0), None, Some(1397.0 / 1769.0)),
    ("h100-sxm5", Some(3241.0 / 3350.0), Some(794.0 / 989.4), Some(0.66 * 3350.0 / 3241.0)),
    ("h200-sxm", Some(4.3 / 4.8), Some(703.0 / 989.4), Some(0.618)),
    ("rtx-4090", Some(0.90), None, Some(0.66 * 3350.0 / 3241.0)),
];

#[test]
fn floors_let_every_published_card_pass_and_stop_one_that_is_15_percent_slower() {
    let catalog = catalog();
    let with_floors: Vec<&str> =
        catalog.devices().filter(|card| card.floors.is_some()).map(|card| card.name.as_str()).collect();
    assert_eq!(with_floors.len(), PUBLISHED.len(), "floors need a published figure in this table");
    for (name, read, compute, decode) in PUBLISHED {
        let floors = catalog.device(name).unwrap().floors.as_ref().unwrap();
        for (floor, published) in
            [(&floors.memory_read, read), (&floors.compute_bf16, compute), (&floors.decode, decode)]
        {
            assert_eq!(floor.is_some(), published.is_some(), "{name}");
            let Some((floor, published)) = floor.as_ref().zip(published) else { continue };
            let slow = published * 0.85;
            // Whole percents, rounded down.
            assert!(floor.value <= slow && slow < floor.value + 0.01 + 1e-9, "{name}: {slow}, {floor:?}");
        }
    }
}

#[test]
fn a_wrong_floor_is_named() {
    let with = |floors: &str| {
        let line = "[peak]\n";
        complaint(line, &format!("[floors]\n{floors}\n{line}"))
    };
    for share in ["0.0", "-0.5", "1.01", "72", "nan", "inf"] {
        let said = with(&format!("memory_read = {{ value = {share}, source = \"x\" }}"));
        assert!(said.contains("floors.memory_read of l4 is ") && said.contains("0.8 for 80%"), "{said}");
    }
    let said = with("decode = { value = 0.5, source = \" \" }");
    assert!(said.contains("floors.decode of l4 has no source"), "{said}");
    assert!(with("").contains("[floors] of l4 is empty"));
    assert!(with("prefill = { value = 0.5, source = \"x\" }").contains("unknown field `prefill`"));
}

#[test]
fn every_card_has_a_link_and_a_wrong_one_is_named() {
    assert!(catalog().devices().all(|card| card.link().is_some_and(|link| link.joins(2))));
    for value in ["0.0", "-1.0", "nan", "inf"] {
        let said = complaint("value = 32.0e9", &format!("value = {value}"));
        assert!(said.contains("link.bandwidth of l4 is ") && said.contains("base units"), "{said}");
    }
    let line = "[link]\n";
    let said = complaint(line, &format!("{line}latency = {{ value = 5e-6, source = \" \" }}\n"));
    assert!(said.contains("link.latency of l4 has no source"), "{said}");
    assert!(complaint(line, &format!("{line}speed = 1\n")).contains("unknown field `speed`"));
}
