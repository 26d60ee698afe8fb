//! Every layout, made here with tiny images, whole and damaged; and the real samples where they are at hand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ferroflow_core::{
    FlowField, Frame, Mask, Size,
    io::{write_flow, write_frame, write_mask},
};
use ferroflow_testing::flo5;

use crate::{DataError, Source, Spec};

/// A folder of made-up data, gone when dropped.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A frame of 6x4, all of one grey.
    pub fn frame(&self, path: impl AsRef<Path>, grey: usize) -> &Self {
        write_frame(self.path(path), &Frame::from_fn(Size::new(4, 6), |_, _| [grey as u8; 3])).unwrap();
        self
    }

    /// A flow of `(u, row)` everywhere.
    pub fn flow(&self, path: impl AsRef<Path>, u: usize) -> &Self {
        write_flow(self.path(path), &FlowField::from_fn(Size::new(4, 6), |_, y| (u as f32, y as f32))).unwrap();
        self
    }

    /// A mask that is true in the first column.
    pub fn mask(&self, path: impl AsRef<Path>) -> &Self {
        write_mask(self.path(path), &Mask::from_fn(Size::new(4, 6), |x, _| x == 0)).unwrap();
        self
    }

    pub fn text(&self, path: impl AsRef<Path>, text: &str) -> &Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    pub fn remove(&self, path: impl AsRef<Path>) -> &Self {
        fs::remove_file(self.path(path)).unwrap();
        self
    }

    /// `{root}` in a spelling stands for the folder.
    pub fn spec(&self, text: &str) -> Spec {
        text.replace("{root}", &self.0.path().to_string_lossy()).parse().unwrap()
    }

    pub fn open(&self, text: &str) -> Result<Box<dyn Source>, DataError> {
        self.spec(text).open()
    }

    /// Grey of both frames and `u` of each sample, and its name.
    pub fn samples(&self, text: &str) -> Vec<(u8, u8, Option<f32>, String)> {
        let source = self.open(text).unwrap();
        (0..source.len().unwrap())
            .map(|i| {
                let s = source.get(i).unwrap();
                (s.first.rgb()[0], s.second.rgb()[0], s.flow.map(|f| f.u()[1]), s.id)
            })
            .collect()
    }

    fn error(&self, text: &str) -> String {
        self.open(text).err().expect("an error").to_string()
    }
}

fn row(first: u8, second: u8, u: impl Into<Option<f32>>, id: &str) -> (u8, u8, Option<f32>, String) {
    (first, second, u.into(), id.into())
}

pub(crate) fn chairs() -> Tree {
    let tree = Tree::new();
    for n in 1..=4 {
        tree.frame(format!("data/{n:05}_img1.ppm"), n).frame(format!("data/{n:05}_img2.ppm"), 10 + n);
        tree.flow(format!("data/{n:05}_flow.flo"), n);
    }
    tree.text("README.txt", "x");
    tree
}

pub(crate) fn sintel() -> Tree {
    let tree = Tree::new();
    for (s, scene) in ["bamboo_1", "alley_2"].into_iter().enumerate() {
        for k in 1..=3 {
            for pass in ["clean", "final", "albedo"] {
                tree.frame(format!("training/{pass}/{scene}/frame_{k:04}.png"), 10 * s + k);
            }
            tree.frame(format!("test/clean/{scene}/frame_{k:04}.png"), 10 * s + k);
            tree.mask(format!("training/invalid/{scene}/frame_{k:04}.png"));
            if k < 3 {
                tree.flow(format!("training/flow/{scene}/frame_{k:04}.flo"), 20 + k);
                tree.mask(format!("training/occlusions/{scene}/frame_{k:04}.png"));
            }
        }
    }
    tree
}

#[test]
fn chairs_pair_by_name_and_split_by_the_list() {
    let tree = chairs();
    let all = tree.samples("chairs:{root}");
    assert_eq!((all.len(), &all[3]), (4, &row(4, 14, 4.0, "00004")));
    assert_eq!(tree.samples("chairs:{root}/data"), all);
    assert!(tree.error("chairs:{root}@train").contains("FlyingChairs_train_val.txt"));
    tree.text("FlyingChairs_train_val.txt", "1\n2\r\n1\n1\n2\n");
    let ids = |text: &str| tree.samples(text).into_iter().map(|s| s.3).collect::<Vec<_>>();
    assert_eq!(ids("chairs:{root}@train"), ["00001", "00003", "00004"]);
    assert_eq!(ids("chairs:{root}/data@val"), ["00002"]);
    tree.text("FlyingChairs_train_val.txt", "1\n3\n");
    assert!(tree.error("chairs:{root}@train").contains("line 2"));
    tree.text("FlyingChairs_train_val.txt", "1\n2\n");
    assert!(tree.error("chairs:{root}@train").contains("another data set"));
}

#[test]
fn another_list_than_the_published_one_is_told() {
    let tree = chairs();
    let notes = |held_out: &[usize]| {
        let line = |n: usize| if held_out.contains(&n) { "2\n" } else { "1\n" };
        tree.text("FlyingChairs_train_val.txt", &(1..=22_872).map(line).collect::<String>());
        crate::check(&tree.spec("chairs:{root}@train")).notes
    };
    let others: Vec<usize> = (201..836).collect();
    let published = [&[50, 64, 80, 131, 158][..], &others].concat();
    let told = |notes: Vec<String>| notes.iter().any(|note| note.contains("not the published list"));
    assert!(!told(notes(&published)));
    assert!(told(notes(&published[1..])) && told(notes(&[&[49][..], &published[1..]].concat())));
}

#[test]
fn chairs_go_by_other_names_too() {
    let tree = Tree::new();
    tree.frame("0000000-img0.ppm", 1).frame("0000000-img1.ppm", 2).flow("0000000-gt.flo", 3);
    assert_eq!(tree.samples("chairs:{root}"), [row(1, 2, 3.0, "0000000")]);
    let tree = Tree::new();
    tree.frame("0000000-img_0.png", 1).frame("0000000-img_1.png", 2).flow("0000000-flow_01.flo", 3);
    tree.mask("0000000-occ_01.png");
    assert_eq!(tree.samples("chairs:{root}"), [row(1, 2, 3.0, "0000000")]);
    assert_eq!(tree.open("chairs:{root}").unwrap().get(0).unwrap().occlusion.unwrap().count(), 4);
}

#[test]
fn what_is_missing_or_misplaced_is_named() {
    let tree = chairs();
    tree.remove("data/00002_img2.ppm").remove("data/00004_flow.flo");
    let error = tree.error("chairs:{root}");
    assert!(error.contains("2 files") && error.contains("00002_img2.ppm"), "{error}");
    let tree = sintel();
    for place in ["{root}/training", "{root}/training/clean", "{root}/.."] {
        let error = tree.error(&format!("sintel-clean:{place}"));
        // From above, the search is bounded and other folders may come first.
        assert!(
            error.contains("training/clean") && (place.ends_with("..") || error.contains("seems to be")),
            "{error}"
        );
    }
    assert!(tree.error("chairs:{root}/nowhere").contains("no such folder"));
    let deep = Tree::new();
    deep.frame("a/b/training/image_2/000000_10.png", 1);
    let error = deep.error("kitti15:{root}");
    assert!(error.contains("kitti15:") && error.contains("a/b"), "{error}");
}

#[test]
fn sintel_pairs_lead_from_frame_to_frame() {
    let tree = sintel();
    let samples = tree.samples("sintel-clean:{root}@train");
    assert_eq!(samples.len(), 4);
    assert_eq!(samples[1], row(12, 13, 22.0, "alley_2/clean/0002"));
    assert_eq!(samples[2], row(1, 2, 21.0, "bamboo_1/clean/0001"));
    assert_eq!(tree.samples("sintel-clean:{root}@test")[0], row(11, 12, None, "alley_2/clean/0001"));
    assert_eq!(tree.samples("sintel-albedo:{root}").len(), 4);
    let plain = tree.open("sintel-final:{root}").unwrap().get(0).unwrap();
    assert_eq!(plain.occlusion.unwrap().count(), 4);
    assert!(plain.flow.unwrap().validity().is_none());
    let masked = tree.open("sintel-final:{root}@train,invalid").unwrap().get(0).unwrap().flow.unwrap();
    assert!(!masked.is_valid(0, 0) && masked.is_valid(1, 0));
    tree.remove("training/clean/alley_2/frame_0002.png").remove("training/flow/bamboo_1/frame_0002.flo");
    assert!(tree.error("sintel-clean:{root}").contains("2 files"));
}

#[test]
fn kitti_reads_sparse_truth_of_both_kinds() {
    let tree = Tree::new();
    for (k, scene) in ["000000", "000001"].into_iter().enumerate() {
        for images in ["training/image_2", "training/colored_0", "testing/image_2", "testing/colored_0"] {
            tree.frame(format!("{images}/{scene}_10.png"), k).frame(format!("{images}/{scene}_11.png"), k + 5);
            tree.frame(format!("{images}/{scene}_12.png"), k + 9);
        }
        tree.flow(format!("training/flow_occ/{scene}_10.png"), 7);
        let sparse = FlowField::sparse_from_fn(Size::new(4, 6), |x, _| (x > 0).then_some((8.0, 0.0)));
        write_flow(tree.path(format!("training/flow_noc/{scene}_10.png")), &sparse).unwrap();
    }
    for year in ["kitti12", "kitti15"] {
        assert_eq!(tree.samples(&format!("{year}:{{root}}"))[1], row(1, 6, 7.0, "000001"));
        assert_eq!(tree.samples(&format!("{year}-noc:{{root}}"))[1], row(1, 6, 8.0, "000001"));
        assert_eq!(
            tree.samples(&format!("{year}:{{root}}@test")),
            [row(0, 5, None, "000000"), row(1, 6, None, "000001")]
        );
    }
    assert_eq!(tree.samples("kitti15:{root}/training").len(), 2);
    let flow = tree.open("kitti12-noc:{root}").unwrap().get(0).unwrap().flow.unwrap();
    assert!(!flow.is_valid(0, 0) && flow.is_valid(1, 0));
    // The first column is measured, and frame 2 does not show it.
    let occluded = |text: &str| tree.open(text).unwrap().get(0).unwrap().occlusion;
    let mask = occluded("kitti15:{root}").unwrap();
    assert_eq!(mask, Mask::from_fn(mask.size(), |x, _| x == 0));
    assert_eq!([occluded("kitti15-noc:{root}"), occluded("kitti15:{root}@test")], [None, None]);
    tree.remove("training/flow_noc/000000_10.png");
    assert_eq!(occluded("kitti12:{root}"), None);
    tree.frame("training/obj_map/000001_10.png", 3);
    let objects = |text: &str, index| tree.open(text).unwrap().foreground(index).unwrap();
    assert_eq!(objects("kitti15:{root}", 0), None);
    assert_eq!(objects("kitti15:{root}", 1), Some(Mask::filled(Size::new(4, 6), true)));
    assert_eq!(objects("kitti15:{root}@test", 1), None);
}

#[test]
fn sdhom_rows_are_the_right_way_up() {
    let tree = Tree::new();
    for part in ["train", "test"] {
        tree.frame(format!("{part}/t0/00001.png"), 1).frame(format!("{part}/t1/00001.png"), 2);
        tree.flow(format!("{part}/flow/00001.pfm"), 3);
    }
    assert_eq!(tree.samples("sdhom:{root}"), [row(1, 2, 3.0, "00001")]);
    let rows = |text: &str| tree.open(text).unwrap().get(0).unwrap().flow.unwrap().v()[0];
    assert_eq!((rows("sdhom:{root}@test"), rows("sdhom:{root}@test,flipped")), (0.0, 3.0));
    tree.remove("train/flow/00001.pfm").flow("train/flow/00001.flo", 4);
    assert_eq!(tree.samples("sdhom:{root}@train"), [row(1, 2, 4.0, "00001")]);
}

#[test]
fn things_go_both_ways_for_both_cameras() {
    let tree = Tree::new();
    for (camera, side) in [("left", "L"), ("right", "R")] {
        for k in 6..=8 {
            for pass in ["clean", "final"] {
                tree.frame(format!("frames_{pass}pass/TRAIN/A/0000/{camera}/{k:04}.png"), k);
            }
            for (into, name) in [("into_future", "Future"), ("into_past", "Past")] {
                let path = format!("optical_flow/TRAIN/A/0000/{into}/{camera}/OpticalFlowInto{name}_{k:04}_{side}.pfm");
                tree.flow(path, 100 + k);
            }
        }
    }
    let samples = tree.samples("things:{root}@train,left,future,past");
    assert_eq!(
        samples,
        [
            row(6, 7, 106.0, "TRAIN/A/0000/clean/left/future/0006"),
            row(7, 8, 107.0, "TRAIN/A/0000/clean/left/future/0007"),
            row(7, 6, 107.0, "TRAIN/A/0000/clean/left/past/0007"),
            row(8, 7, 108.0, "TRAIN/A/0000/clean/left/past/0008"),
        ]
    );
    assert_eq!(tree.samples("things:{root}").len(), 4);
    assert_eq!(tree.samples("things:{root}@clean,final,future,past").len(), 16);
    tree.text("frames_cleanpass/all_unused_files.txt", "TRAIN/A/0000/left/0006.png\n");
    assert_eq!(tree.samples("things:{root}").len(), 3);
    tree.flow("optical_flow/TRAIN/A/0000/into_future/right/OpticalFlowIntoFuture_0006_R.pfm", 1000);
    let flow = tree.open("things:{root}@right").unwrap().get(0).unwrap().flow.unwrap();
    assert!(!flow.is_valid(0, 0));
}

#[test]
fn the_things_subset_skips_gaps() {
    let tree = Tree::new();
    for k in [0, 1, 2, 7, 8] {
        tree.frame(format!("train/image_clean/left/{k:07}.png"), k);
        tree.flow(format!("train/flow/left/into_future/{k:07}.flo"), 50 + k);
        tree.flow(format!("train/flow/left/into_past/{k:07}.flo"), 70 + k);
        tree.mask(format!("train/flow_occlusions/left/into_past/{k:07}.png"));
    }
    let firsts: Vec<_> = tree.samples("things-subset:{root}").iter().map(|s| (s.0, s.1)).collect();
    assert_eq!(firsts, [(0, 1), (1, 2), (7, 8)]);
    assert_eq!(tree.samples("things-subset:{root}@past")[0], row(1, 0, 71.0, "clean/left/past/0000001"));
    assert!(tree.open("things-subset:{root}@past").unwrap().get(0).unwrap().occlusion.is_some());
}

/// Frames 0 to 2 and 3 to 5 are of two videos, whose frames in between are left out.
#[test]
fn the_things_subset_does_not_pair_two_videos() {
    let tree = Tree::new();
    for k in 0..6 {
        tree.frame(format!("train/image_clean/left/{k:07}.png"), k);
        // Frame 2 was not the last of its video: its flow leads to a frame left out. Frame 3 was not the first.
        if k != 5 {
            tree.flow(format!("train/flow/left/into_future/{k:07}.flo"), 50 + k);
        }
        if k != 0 && k != 3 {
            tree.flow(format!("train/flow/left/into_past/{k:07}.flo"), 70 + k);
        }
    }
    let firsts = |text: &str| tree.samples(text).iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(firsts("things-subset:{root}"), [0, 1, 3, 4]);
    assert_eq!(firsts("things-subset:{root}@past"), [1, 2, 4, 5]);
    let note = crate::check(&tree.spec("things-subset:{root}")).to_string();
    assert!(note.contains("1 flows lead to a frame of another video"), "{note}");
}

#[test]
fn a_set_without_pairs_says_what_is_there_instead() {
    let tree = Tree::new();
    tree.text("frames_cleanpass/TRAIN/A/0000/left/0006.tga", "x").text("frames_cleanpass/notes.txt", "x");
    tree.text("frames_cleanpass/TRAIN/A/0000/left/0007.tga", "x");
    let error = tree.error("things:{root}@left");
    for part in ["no pairs", "TRAIN, clean pass, left camera", "holds frames_cleanpass", "2 .tga, 1 .txt"] {
        assert!(error.contains(part), "{error}");
    }
    let report = crate::check(&tree.spec("things:{root}@left"));
    assert!(!report.is_whole() && report.to_string().contains("2 .tga"), "{report}");
    tree.text("p.tsv", "image1\timage2\n").frame("one/1.png", 1);
    for text in ["pairs:{root}/p.tsv", "folder:{root}/one", "synth:chairs@count=0"] {
        assert!(tree.error(text).contains("no pairs"), "{}", tree.error(text));
        assert!(!crate::check(&tree.spec(text)).is_whole());
    }
}

#[test]
fn hd1k_stays_within_its_sequences() {
    let tree = Tree::new();
    for (s, k) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
        tree.frame(format!("hd1k_input/image_2/{s:06}_{k:04}.png"), 10 * s + k);
        tree.flow(format!("hd1k_flow_gt/flow_occ/{s:06}_{k:04}.png"), 10 * s + k);
        tree.frame(format!("hd1k_challenge/image_2/{s:06}_{k:04}.png"), k);
    }
    let ids: Vec<_> = tree.samples("hd1k:{root}").into_iter().map(|s| s.3).collect();
    assert_eq!(ids, ["000000_0000", "000001_0000", "000001_0001"]);
    assert_eq!(tree.samples("hd1k:{root}@test")[2], row(1, 2, None, "000001_0001"));
}

#[test]
fn middlebury_in_both_layouts() {
    let tree = Tree::new();
    for (k, name) in ["Venus", "Grove2", "Walking"].into_iter().enumerate() {
        tree.frame(format!("other-data/{name}/frame10.png"), k).frame(format!("other-data/{name}/frame11.png"), k + 5);
        tree.frame(format!("eval-data/{name}/frame10.png"), k).frame(format!("eval-data/{name}/frame11.png"), k + 5);
        if k < 2 {
            tree.flow(format!("other-gt-flow/{name}/flow10.flo"), k);
        }
    }
    let expected = [row(1, 6, 1.0, "Grove2"), row(0, 5, 0.0, "Venus")];
    assert_eq!(tree.samples("middlebury:{root}"), expected);
    assert_eq!(tree.samples("middlebury:{root}@test").len(), 3);
    let tree = Tree::new();
    for (k, name) in ["Venus", "Grove2"].into_iter().enumerate() {
        tree.frame(format!("{name}/frame10.png"), k).frame(format!("{name}/frame11.png"), k + 5);
        tree.flow(format!("{name}/flow10.flo"), k);
    }
    assert_eq!(tree.samples("middlebury:{root}"), expected);
}

#[test]
fn spring_has_flow_of_twice_the_size() {
    let tree = Tree::new();
    for k in 1..=3 {
        tree.frame(format!("train/0001/frame_left/frame_left_{k:04}.png"), k);
        tree.frame(format!("test/0003/frame_left/frame_left_{k:04}.png"), k);
        let flow = flo5(8, 12, k == 2, |y, x, plane| if plane == 0 { (29 + k + x / 2) as f32 } else { y as f32 });
        fs::write(tree.path(format!("train/0001/flow_BW_left/flow_BW_left_{k:04}.flo5")), flow).unwrap();
    }
    assert_eq!(tree.samples("spring:{root}@past")[0], row(2, 1, 32.0, "0001/left/past/0002"));
    assert_eq!(tree.samples("spring:{root}@test").len(), 2);
    let report = crate::check(&tree.spec("spring:{root}@past"));
    assert_eq!((report.missing, report.damaged, report.pairs), (0, 0, Some(2)));
    let cut = tree.path("train/0001/flow_BW_left/flow_BW_left_0002.flo5");
    fs::write(&cut, &fs::read(&cut).unwrap()[..500]).unwrap();
    assert!(crate::check(&tree.spec("spring:{root}@past")).first_damaged[0].contains("bytes instead of"));
}

#[test]
fn a_table_of_pairs_is_read_by_its_header() {
    let tree = Tree::new();
    tree.frame("a/1.png", 1).frame("a/2.png", 2).flow("a/f.flo", 3).mask("a/m.png");
    let header = "flow\timage2\tnote\timage1\tinvalid\tocclusions";
    tree.text("a/p.tsv", &format!("{header}\nf.flo\t2.png\tx\t1.png\tm.png\t\n\n# no\n\t1.png\t\t2.png\t\tm.png\r\n"));
    let samples = tree.samples("pairs:{root}/a/p.tsv");
    assert_eq!(samples, [row(1, 2, 3.0, "1.png"), row(2, 1, None, "2.png")]);
    let source = tree.open("pairs:{root}/a/p.tsv").unwrap();
    let flow = source.get(0).unwrap().flow.unwrap();
    assert!(!flow.is_valid(0, 0) && flow.is_valid(1, 0));
    assert_eq!(source.get(1).unwrap().occlusion.unwrap().count(), 4);
    assert!(matches!(source.get(2), Err(DataError::Index { len: 2, .. })));
    for (text, word) in [
        ("", "empty"),
        ("image1 image2\n", "tabs"),
        ("image1\timage2\n1.png\n", "line 2"),
        ("image1\timage2\n1.png\t2.png\n1.png\t2.png", "before"),
        ("image1\timage2\n1.png\t9.png\n", "9.png"),
    ] {
        let error = tree.text("a/q.tsv", text).error("pairs:{root}/a/q.tsv");
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn parts_of_other_sizes_and_damaged_files_are_refused() {
    let tree = chairs();
    write_flow(tree.path("data/00001_flow.flo"), &FlowField::zeros(Size::new(4, 5))).unwrap();
    tree.text("data/00002_img1.ppm", "P6 6 4 255\nshort");
    let source = tree.open("chairs:{root}").unwrap();
    let sizes = source.get(0).unwrap_err();
    assert!(
        matches!(sizes, DataError::Sizes { part: "ground truth", found: Size { height: 4, width: 5 }, .. }),
        "{sizes}"
    );
    assert!(source.get(1).unwrap_err().to_string().contains("00002_img1.ppm"));
}

#[test]
fn frames_videos_and_the_generator_are_sources() {
    let tree = Tree::new();
    for k in [1, 2, 10] {
        tree.frame(format!("v/f{k}.png"), k);
    }
    assert_eq!(tree.samples("folder:{root}/v"), [row(1, 2, None, "f1.png"), row(2, 10, None, "f2.png")]);
    assert!(tree.error("folder:{root}").contains("no image"));

    let y4m: Vec<u8> = (0..4u8).flat_map(|k| [b"FRAME\n".as_slice(), &[50 * k; 24]].concat()).collect();
    fs::write(tree.path("v.y4m"), [b"YUV4MPEG2 W6 H4 F25:1 Cmono XCOLORRANGE=FULL\n".as_slice(), &y4m].concat())
        .unwrap();
    let video = tree.open("video:{root}/v.y4m").unwrap();
    assert_eq!(video.len(), Some(3));
    for index in [2, 0, 1, 1] {
        let pair = video.get(index).unwrap();
        assert_eq!((pair.first.rgb()[0], pair.second.rgb()[0]), (50 * index as u8, 50 * (index as u8 + 1)));
    }
    assert!(matches!(video.get(3), Err(DataError::Index { .. })));

    let synth = tree.open("synth:sdhom@count=3,size=32x64,seed=5").unwrap();
    let first = synth.get(0).unwrap().first;
    assert_eq!((synth.len(), first.height(), first.width()), (Some(3), 32, 64));
    assert_eq!(tree.open("synth:chairs").unwrap().len(), None);
    for (text, word) in
        [("synth:tables", "presets"), ("synth:auto@size=0x3", "HEIGHTxWIDTH"), ("synth:auto@count=x", "whole")]
    {
        assert!(tree.error(text).contains(word));
    }
}

/// The folder of real samples, if it is there.
pub(crate) fn real() -> Option<PathBuf> {
    ferroflow_testing::shared("data")
}

#[test]
fn real_samples_have_the_sizes_and_statistics_of_their_table() {
    let Some(data) = real() else { return };
    let table = data.join("pairs.tsv");
    let source = format!("pairs:{}", table.display()).parse::<Spec>().unwrap().open().unwrap();
    let text = fs::read_to_string(&table).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split('\t').collect()).collect();
    assert_eq!(source.len(), Some(rows.len()));
    for (index, row) in rows.iter().enumerate() {
        let sample = source.get(index).unwrap();
        let flow = sample.flow.unwrap();
        let number = |column: usize| row[column].parse::<f64>().unwrap();
        assert_eq!(sample.id, row[0]);
        assert_eq!((flow.width() as f64, flow.height() as f64), (number(6), number(7)));
        let known: Vec<f64> = (0..flow.height())
            .flat_map(|y| (0..flow.width()).map(move |x| (x, y)))
            .filter_map(|(x, y)| flow.known(x, y))
            .map(|(u, v)| f64::from(u).hypot(f64::from(v)))
            .collect();
        let share = known.len() as f64 / flow.u().len() as f64;
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        // The table's digits: four of each.
        assert!((share - number(8)).abs() < 6e-5 && (mean - number(9)).abs() < 6e-5, "{}: {share} {mean}", row[0]);
    }
    let count = |text: &str, path: &str| {
        let spec: Spec = format!("{text}:{}", data.join(path).display()).parse().unwrap();
        let source = spec.open().unwrap();
        source.get(0).unwrap();
        source.len().unwrap()
    };
    assert_eq!(count("middlebury", "middlebury"), 5);
    assert_eq!(count("kitti15", "kitti2015"), 6);
    assert_eq!(count("chairs", "flyingchairs/lmb-examples"), 6);
    assert_eq!(count("chairs", "flyingchairs/openmmlab-ci"), 2);
    assert_eq!(count("folder", "video/rubberwhale-8frames"), 7);
}
