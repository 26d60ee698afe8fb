use super::*;
use crate::optimiser::Decay;

const TEXT: &str = r#"
model = "lightflow-0.5"
data = "synth:chairs@size=64x64"
steps = 4
batch = 2
crop = "64x64"
lr = 1e-4
loss = "lightflow-l1"
"#;

fn parse(changes: &[&str]) -> Result<Recipe, RecipeError> {
    Recipe::parse("test", TEXT, changes)
}

fn refused(changes: &[&str]) -> String {
    parse(changes).unwrap_err().to_string()
}

#[test]
fn every_shipped_recipe_is_whole() {
    for shipped in SHIPPED {
        let recipe =
            Recipe::parse(shipped.name, shipped.text, &[""; 0]).unwrap_or_else(|e| panic!("{}: {e}", shipped.name));
        assert!(!shipped.description().is_empty() && shipped.text.starts_with('#'), "{}", shipped.name);
        assert_eq!(recipe.validate.is_empty(), shipped.name == "video", "{}", shipped.name);
        for key in ["model", "data", "validate", "steps", "batch", "crop", "seed", "lr", "checkpoint_every", "init"] {
            assert!(shipped.text.lines().any(|l| l.starts_with(&format!("{key} = "))), "{}: {key}", shipped.name);
        }
        // What is written beside a run is the run.
        assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).unwrap(), recipe, "{}", shipped.name);
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes")).unwrap().count();
    assert_eq!(files, SHIPPED.len(), "every file of recipes/ is shipped");
}

#[test]
fn changes_are_made() {
    let recipe = parse(&[
        "steps=20",
        "crop=128x64",
        "schedule.name=cosine",
        "schedule.floor=1e-6",
        "loss.weights=[0.5]",
        "freeze=conv1.",
        "data=[\"synth:auto\", \"chairs:/data/c\"]",
        "options.div-flow=1",
        "optimiser=sgd",
        "init=start.safetensors",
        "loss_scale=dynamic",
    ])
    .unwrap();
    assert_eq!((recipe.steps, recipe.crop.height, recipe.crop.width), (20, 128, 64));
    assert_eq!(recipe.schedule, Schedule::Cosine { from: 0, over: None, floor: 1e-6 });
    assert_eq!(recipe.loss.weights, Some(vec![0.5]));
    assert_eq!((recipe.freeze.len(), recipe.data.len()), (1, 2));
    assert_eq!(recipe.options["div-flow"], "1");
    assert_eq!(recipe.optimiser, OptimiserConfig::Sgd { momentum: 0.9 });
    assert_eq!(recipe.init[""], "start.safetensors");
    assert_eq!(parse(&["init={ \"flownetc.\" = \"c\" }"]).unwrap().init["flownetc."], "c");
    assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).unwrap(), recipe);
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (change, meant) in [
        ("stpes=3", "did you mean `steps`?"),
        ("wieght_decay=3", "did you mean `weight_decay`?"),
        ("loss.wieghts=[1.0]", "did you mean `weights`?"),
        ("schedule={ name = \"cosine\", flor = 1 }", "did you mean `floor`?"),
        ("schedule=cosin", "did you mean `cosine`?"),
        ("schedule={ name = \"constant\", at = [1] }", "at"),
        ("optimiser=adma", "did you mean `adam`?"),
        ("loss=epf", "did you mean `epe`?"),
        ("augment=flownt", "did you mean `flownet`?"),
        ("model=pwcnt", "pwcnet"),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(meant), "{change}: {message}");
    }
    assert!(!refused(&["xyzzyplugh=3"]).contains("did you mean"));
    let message = Recipe::open("lightflow-sinth", &[""; 0]).unwrap_err().to_string();
    assert!(message.contains("`lightflow-synth`") && message.contains("--list"), "{message}");
}

#[test]
fn what_cannot_work_is_refused_with_what_would() {
    for (change, word) in [
        ("crop=60x64", "multiples of 64"),
        ("crop=64x", "HEIGHTxWIDTH"),
        ("crop=64", "`crop`"),
        ("batch=0", "at least 1"),
        ("batch=two", "batch"),
        ("lr=nan", "lr"),
        ("ema=1.0", "ema"),
        ("data=chairs", "chairs"),
        ("freeze=conv99.", "begins with `conv99.`"),
        ("freeze=conv", "nothing to train"),
        ("loss_scale=0", "loss_scale"),
        ("steps", "key=value"),
        ("steps.x=1", "steps has no parts"),
        ("options.width=2", "div-flow"),
        ("model=pwcnet", "levels"),
        ("schedule={ name = \"piecewise\", at = [1], rates = [1.0] }", "one more"),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(word), "{change}: {message}");
    }
    let missing = Recipe::parse("test", "model = \"pwcnet\"", &[""; 0]).unwrap_err().to_string();
    assert!(missing.contains("missing key `"), "{missing}");
}

#[test]
fn the_rate_warms_up() {
    let recipe = parse(&["warmup=4"]).unwrap();
    let rates: Vec<f64> = (0..5).map(|s| recipe.rate(s) / 1e-4).collect();
    for (rate, expected) in rates.iter().zip([0.25, 0.5, 0.75, 1.0, 1.0]) {
        assert!((rate - expected).abs() < 1e-12);
    }
}

#[test]
fn frozen_and_unused_parameters_are_not_trained() {
    let recipe = parse(&["freeze=conv1."]).unwrap();
    let model = recipe.model().unwrap();
    for (param, trained) in model.graph.params.iter().zip(recipe.trained(&model)) {
        assert_eq!(trained, param.role.is_trained() && !param.name.starts_with("conv1."), "{}", param.name);
    }
}

/// The rates of LightFlow's README, by epochs: configurations 1 and 2 go up tenfold and are then halved; configuration 3 goes on
/// from the first 58 epochs of configuration 2.
#[test]
fn lightflows_configurations_have_the_rates_of_its_readme() {
    let open = |name: &str| Recipe::open(name, &[""; 0]).unwrap();
    for (name, unit) in [("lightflow-1", "1"), ("lightflow-2", "20"), ("lightflow-3", "20")] {
        let recipe = open(name);
        assert_eq!((recipe.steps, recipe.epoch_steps, recipe.batch), (403 * 174, 174, 128), "{name}");
        assert_eq!((recipe.options["div-flow"].as_str(), recipe.crop), (unit, Size::new(320, 448)), "{name}");
        // First epochs and their rates.
        let table: &[(u64, f64)] = match name {
            "lightflow-3" => &[(58, 5e-4), (174, 2.5e-4), (232, 1.25e-4), (290, 6.25e-5), (348, 3.125e-5)],
            _ => &[(0, 1e-3), (58, 1e-2), (174, 5e-3), (232, 2.5e-3), (290, 1.25e-3), (348, 6.25e-4)],
        };
        assert_eq!(recipe.start, if name == "lightflow-3" { 58 * 174 } else { 0 });
        let ends = table[1..].iter().map(|(epoch, _)| *epoch).chain([403]);
        for ((first, rate), end) in table.iter().zip(ends) {
            for step in [first * 174, end * 174 - 1] {
                assert!((recipe.rate(step) / rate - 1.0).abs() < 1e-12, "{name} at {step}: {}", recipe.rate(step));
            }
        }
    }
    assert_eq!(open("lightflow-3").init[""], "runs/lightflow-2/weights/last.safetensors");
}

#[test]
fn evaluations_are_counted_from_the_first() {
    let recipe = parse(&["validate_from=10", "validate_every=50"]).unwrap();
    let evaluated: Vec<u64> = (0..=120).filter(|&step| recipe.validates(step)).collect();
    // As MindSpore's callback: epochs 1, 6, 11 for a start of 1 and an interval of 5.
    assert_eq!(evaluated, [10, 60, 110]);
    let recipe = parse(&["validate_every=50"]).unwrap();
    assert_eq!((0..=120).filter(|&step| recipe.validates(step)).collect::<Vec<_>>(), [50, 100]);
}

#[test]
fn what_the_projects_can_set_can_be_set_here() {
    let recipe = parse(&[
        "keep=0",
        "keep_best=10",
        "validate_protocol=flownet2",
        "validate_crop=256x256",
        "validate_size=384x1024",
        "validate_batch=4",
        "pictures=top-flow",
        "weight_decay=4e-5",
        "bias_decay=1e-5",
        "initialisation={ name = 'kaiming-normal', slope = 0.1 }",
        "regulariser_in_loss=true",
        "augment=center",
        "log_every='2 epochs'",
        "epoch_steps=7",
    ])
    .unwrap();
    assert_eq!((recipe.keep, recipe.keep_best, recipe.log_every), (0, 10, 14));
    assert_eq!((recipe.project().unwrap().name, recipe.pictures), ("flownet2", Pictures::TopFlow));
    assert_eq!(recipe.decay(), Decay { weights: 4e-5, biases: 1e-5 });
    assert_eq!(recipe.initialisation, Some(Initialisation::KaimingNormal { slope: 0.1 }));
    assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).unwrap(), recipe);
    assert_eq!(parse(&["initialisation=he-uniform"]).unwrap().initialisation, Some(Initialisation::HeUniform {}));
    for (change, word) in [
        ("validate_protocol=flownet", "did you mean `flownet2`?"),
        ("validate_size=60x64", "multiples of 64"),
        ("validate_batch=0", "at least 1"),
        ("keep_best=0", "at least 1"),
        ("pictures=top", "top-flow"),
        ("bias_decay=-1.0", "bias_decay"),
        ("initialisation=xavier", "xavier-uniform"),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(word), "{change}: {message}");
    }
}
