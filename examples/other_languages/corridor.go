// Q-learning in a corridor: walk right to the goal. Prints JSON lines; needs only the standard library.
//
//	stepstream run -- go run corridor.go
package main

import (
	"encoding/json"
	"math"
	"math/rand"
	"os"
	"strconv"
)

const cells = 12

// Step is one environment step; fields that a line lacks are simply left out.
type Step struct {
	Type        string  `json:"type"`
	Episode     int     `json:"episode_index"`
	Step        int     `json:"step_index"`
	Observation int     `json:"observation"`
	Action      int     `json:"action"`
	Reward      float64 `json:"reward"`
	Terminated  bool    `json:"terminated"`
	Truncated   bool    `json:"truncated"`
	Epsilon     float64 `json:"epsilon"`
}

// Episode is what an episode came to.
type Episode struct {
	Type       string  `json:"type"`
	Episode    int     `json:"episode_index"`
	Return     float64 `json:"episode_return"`
	Length     int     `json:"episode_length"`
	Terminated bool    `json:"terminated"`
	Truncated  bool    `json:"truncated"`
}

func main() {
	episodes := 200
	if len(os.Args) > 1 {
		episodes, _ = strconv.Atoi(os.Args[1])
	}
	random := rand.New(rand.NewSource(1))
	out := json.NewEncoder(os.Stdout) // one object, one line, written at once
	out.Encode(map[string]any{"type": "run_started", "env_id": "Corridor",
		"config": map[string]any{"language": "go", "gamma": 0.95}})
	var q [cells][2]float64
	for episode := 0; episode < episodes; episode++ {
		cell, total := 0, 0.0
		epsilon := math.Max(0.05, 1-float64(episode)/(float64(episodes)*0.5))
		for step := 0; ; step++ {
			action := 0
			if q[cell][1] > q[cell][0] {
				action = 1
			}
			if random.Float64() < epsilon || q[cell][0] == q[cell][1] {
				action = random.Intn(2)
			}
			next := max(0, cell+2*action-1)
			terminated := next == cells-1
			truncated := !terminated && step == 99
			reward, future := -0.01, math.Max(q[next][0], q[next][1])
			if terminated {
				reward, future = 1, 0
			}
			q[cell][action] += 0.5 * (reward + 0.95*future - q[cell][action])
			out.Encode(Step{"step", episode, step, cell, action, reward, terminated, truncated, epsilon})
			cell, total = next, total+reward
			if terminated || truncated {
				out.Encode(Episode{"episode", episode, total, step + 1, terminated, truncated})
				break
			}
		}
	}
	out.Encode(map[string]any{"type": "run_completed", "status": "completed"})
}
