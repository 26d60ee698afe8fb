//! Names of the MindSpore port of UFlow: whatever cell was saved, the end of the name is the same.

/// The name as `TrainOneStepCell` saves it, the one the network's definition uses.
pub(super) fn canonical(name: &str) -> Option<String> {
    let markers = [
        ("_flow_layers.", "_teacher_flow_model."),
        ("_context_up_layers.", "_teacher_flow_model."),
        ("_refine_model.", "_teacher_flow_model."),
        ("_conv", "_teacher_feature_model."),
    ];
    let (at, model) = markers.iter().find_map(|(marker, model)| Some((name.rfind(marker)?, model)))?;
    let starts_a_part = at == 0 || name.as_bytes()[at - 1] == b'.';
    let is_numbered = !name[at..].starts_with("_conv") || name.as_bytes().get(at + 5).is_some_and(u8::is_ascii_digit);
    (starts_a_part && is_numbered).then(|| format!("{model}{}", &name[at..]))
}
