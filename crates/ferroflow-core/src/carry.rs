//! Where a flow will be a frame later: a first guess for the next pair of a video.

use std::collections::VecDeque;

use crate::FlowField;

/// Every pixel's flow where it leads: the flow of the next pair, if everything goes on as it moves (RAFT's warm start, Teed & Deng
/// 2020, section 3.3).
///
/// Where several lead to one pixel, the one that lands nearest to its centre counts. A pixel to which none leads takes that of one of
/// the nearest that have one, counted in steps to neighbours; if nothing stays in the frame, the flow is zero.
pub fn carried_along(flow: &FlowField) -> FlowField {
    let (width, height) = (flow.width(), flow.height());
    // The pixel whose flow each one takes, and how far from its centre that lands.
    let mut source: Vec<Option<usize>> = vec![None; width * height];
    let mut apart = vec![f32::INFINITY; width * height];
    for from in 0..width * height {
        let (x, y) = (from % width, from / width);
        let Some((u, v)) = flow.known(x, y) else { continue };
        let (to_x, to_y) = (x as f32 + u, y as f32 + v);
        let (near_x, near_y) = (to_x.round(), to_y.round());
        // Also where it is not a number.
        if !((0.0..width as f32).contains(&near_x) && (0.0..height as f32).contains(&near_y)) {
            continue;
        }
        let at = near_y as usize * width + near_x as usize;
        let distance = (to_x - near_x).powi(2) + (to_y - near_y).powi(2);
        if distance < apart[at] {
            (source[at], apart[at]) = (Some(from), distance);
        }
    }
    let mut reached: VecDeque<usize> = (0..source.len()).filter(|&at| source[at].is_some()).collect();
    while let Some(at) = reached.pop_front() {
        let (x, y) = (at % width, at / width);
        let beside = [
            (x > 0).then(|| at - 1),
            (x + 1 < width).then(|| at + 1),
            (y > 0).then(|| at - width),
            (y + 1 < height).then(|| at + width),
        ];
        for next in beside.into_iter().flatten() {
            if source[next].is_none() {
                source[next] = source[at];
                reached.push_back(next);
            }
        }
    }
    FlowField::from_fn(flow.size(), |x, y| {
        source[y * width + x].map_or((0.0, 0.0), |from| flow.get(from % width, from / width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn a_square_that_moves_is_where_it_went() {
        // A square of 2 x 2 at (1, 1) goes on by (3, 1); all around rests.
        let inside =
            |x: usize, y: usize, left: usize, top: usize| (left..left + 2).contains(&x) && (top..top + 2).contains(&y);
        let flow = FlowField::from_fn(Size::new(6, 8), |x, y| if inside(x, y, 1, 1) { (3.0, 1.0) } else { (0.0, 0.0) });
        let next = carried_along(&flow);
        for (x, y) in (0..6).flat_map(|y| (0..8).map(move |x| (x, y))) {
            // The background that it covers lands there as well, in the middle of pixels too: the first one counts.
            let expected = if inside(x, y, 4, 2) { (3.0, 1.0) } else { (0.0, 0.0) };
            assert_eq!(next.get(x, y), expected, "{x} {y}");
        }
    }

    #[test]
    fn gaps_take_the_nearest_and_nothing_left_is_zero() {
        let all = FlowField::from_fn(Size::new(4, 5), |_, _| (2.25, -1.0));
        let next = carried_along(&all);
        assert!((0..20).all(|i| next.get(i % 5, i / 5) == (2.25, -1.0)));
        for (u, v) in [(50.0, 0.0), (f32::NAN, 0.0), (f32::INFINITY, f32::NEG_INFINITY)] {
            let gone = carried_along(&FlowField::from_fn(Size::new(4, 5), |_, _| (u, v)));
            assert!((0..20).all(|i| gone.get(i % 5, i / 5) == (0.0, 0.0)));
        }
        let unknown = FlowField::sparse_from_fn(Size::new(3, 3), |x, y| (x == 0 && y == 0).then_some((1.0, 1.0)));
        assert_eq!(carried_along(&unknown).get(2, 2), (1.0, 1.0));
    }
}
