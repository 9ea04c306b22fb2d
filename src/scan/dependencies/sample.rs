//! The sample set of advisories, part of the program.
//!
//! Facts about well-known vulnerabilities, in words of our own, for tests and the
//! demonstration. They lie in `fixtures/advisories`, one OSV record a file.

macro_rules! records {
    ($($id:literal),* $(,)?) => {
        &[$(($id, include_str!(concat!("../../../fixtures/advisories/", $id, ".json")))),*]
    };
}

/// Id and record.
pub(super) const RECORDS: &[(&str, &str)] = records![
    "GHSA-2gwj-7jmv-h26r",
    "GHSA-35jh-r3h4-6jhm",
    "GHSA-36p3-wjmg-h94x",
    "GHSA-462w-v97r-4m45",
    "GHSA-4w2v-q235-vp99",
    "GHSA-57j2-w4cx-62h2",
    "GHSA-599f-7c49-w659",
    "GHSA-5crp-9r3c-p9vr",
    "GHSA-6757-jp84-gxfx",
    "GHSA-86g5-2wh3-gc9j",
    "GHSA-8q59-q68h-6hv4",
    "GHSA-cph5-m8f7-6c5x",
    "GHSA-cr5j-953j-xw5p",
    "GHSA-cwmx-hcrq-mhc3",
    "GHSA-fjq5-5j5f-mvxh",
    "GHSA-j8r2-6x86-q33q",
    "GHSA-jfh8-c2jp-5v3q",
    "GHSA-m2qf-hxjv-5gpq",
    "GHSA-mjmj-j48q-9wg2",
    "GHSA-mph4-vhrx-mv67",
    "GHSA-p6mc-m468-83gw",
    "GHSA-phwq-j96m-2c2q",
    "GHSA-qwph-4952-7xr6",
    "GHSA-qxxx-2pp7-5hmx",
    "GHSA-rv95-896h-c2vc",
    "GHSA-x84v-xcm2-53pg",
    "GHSA-xvch-5gv4-984h",
    "GO-2020-0017",
    "GO-2021-0052",
    "GO-2021-0113",
    "GO-2022-1059",
    "RUSTSEC-2020-0071",
    "RUSTSEC-2021-0003",
];
