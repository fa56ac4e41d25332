// Q-learning in a corridor: walk right to the goal. Prints JSON lines; needs nothing but std.
//
//     rustc -O corridor.rs && stepstream run -- ./corridor
const CELLS: usize = 12;

/// A small generator (xorshift), so that the example needs no crate.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn main() {
    let episodes: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut q = [[0.0f64; 2]; CELLS];
    println!(r#"{{"type":"run_started","env_id":"Corridor","config":{{"language":"rust","gamma":0.95}}}}"#);
    for episode in 0..episodes {
        let (mut cell, mut total, mut step) = (0usize, 0.0f64, 0usize);
        let epsilon = (1.0 - episode as f64 / (episodes as f64 * 0.5)).max(0.05);
        loop {
            let explore = random.next() < epsilon || q[cell][0] == q[cell][1];
            let action = if explore { (random.next() < 0.5) as usize } else { (q[cell][1] > q[cell][0]) as usize };
            let next = if action == 1 { cell + 1 } else { cell.saturating_sub(1) };
            let terminated = next == CELLS - 1;
            let truncated = !terminated && step == 99;
            let reward = if terminated { 1.0 } else { -0.01 };
            let future = if terminated { 0.0 } else { q[next][0].max(q[next][1]) };
            q[cell][action] += 0.5 * (reward + 0.95 * future - q[cell][action]);
            println!(
                r#"{{"type":"step","episode_index":{episode},"step_index":{step},"observation":{cell},"action":{action},"reward":{reward},"terminated":{terminated},"truncated":{truncated},"epsilon":{epsilon}}}"#
            );
            cell = next;
            total += reward;
            step += 1;
            if terminated || truncated {
                println!(
                    r#"{{"type":"episode","episode_index":{episode},"episode_return":{total},"episode_length":{step},"terminated":{terminated},"truncated":{truncated}}}"#
                );
                break;
            }
        }
    }
    println!(r#"{{"type":"run_completed","status":"completed"}}"#);
}
