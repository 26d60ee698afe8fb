use super::*;

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
