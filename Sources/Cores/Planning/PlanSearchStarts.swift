internal import Primitives
internal import Topologies

/// Where a search begins: layouts by place and by speed, of every depth that memory allows.
extension PlanSearch {
    func starts(_ chain: [Int]) -> [Partition] {
        var found = [chained(chain, all: chain), dealt(chain)]
        let most = cost.model.unitCount
        let need = cost.memory(cost.model.allUnits, rounds: pacing.usesRounds, kept: 1)
        let least = cost.leastMemory(cost.model.allUnits, rounds: pacing.usesRounds)
        for stages in PlanSearch.depths where stages <= most && stages * pipelines <= chain.count {
            if let fixed = cost.givenStages, fixed != stages { continue }
            let chosen = useful(chain, count: stages * pipelines, stages: stages)
            let memory = chosen.reduce(0) { $0 + min(need, cost.memories[$1]) }
            guard memory / pipelines >= least else { continue }
            found.append(even(chain, chosen, stages))
            found.append(dealt(chosen, rest: chain))
        }
        return found
    }
    private static let depths = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128]

    /// The `count` peers that would hold up a pipeline of `stages` equal stages least, by compute and by line.
    private func useful(_ peers: [Int], count: Int, stages: Int) -> Set<Int> {
        let work = 3 * cost.flops(cost.model.allUnits) / Double(stages)
        let bytes = stages == 1 ? 0 : 2 * cost.activationBytes(pacing.activations)
        let exchange = cost.contributionBytes(cost.model.allUnits, pacing.codec) / Double(stages)
        let perMicroBatch =
            pipelines == 1
            ? 0
            : exchange * Double(pipelines - 1) * Double(pipelines)
                / Double(pacing.innerSteps * cost.job.virtualPipelines * pacing.microBatchesPerVirtual)
        var keyed: [(time: Double, peer: Int)] = []
        for peer in peers {
            let host = cost.topology.hosts[peer]
            let line = min(host.up.bytesPerSecond, host.down.bytesPerSecond)
            keyed.append((max(work / host.flops, bytes / line) + perMicroBatch / line, peer))
        }
        keyed.sort { ($0.time, $0.peer) < ($1.time, $1.peer) }
        return Set(keyed.prefix(count).map(\.peer))
    }

    /// The chosen ones in the chain's order, `stages` to a group.
    private func even(_ chain: [Int], _ chosen: Set<Int>, _ stages: Int) -> Partition {
        var groups = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in chain.filter(chosen.contains).enumerated() { groups[index / stages].append(peer) }
        groups[pipelines] = chain.filter { !chosen.contains($0) }
        return normal(groups)
    }

    /// The chain cut where the groups' speeds are even: peers of one place end up in one pipeline.
    private func chained(_ order: [Int], all peers: [Int]) -> Partition {
        let speed = peers.reduce(0.0) { $0 + cost.speeds[$1] }
        var groups = Partition(repeating: [], count: pipelines + 1)
        var sum = 0.0
        for (index, peer) in order.enumerated() {
            let left = order.count - index
            var group = min(pipelines - 1, Int(sum / speed * Double(pipelines)))
            // Every group gets at least one peer.
            if left <= pipelines, let empty = groups.dropLast().firstIndex(where: \.isEmpty) { group = empty }
            groups[group].append(peer)
            sum += cost.speeds[peer]
        }
        return normal(groups)
    }
    /// Fastest first, dealt to the groups there and back.
    private func dealt(_ peers: [Int]) -> Partition { dealt(Set(peers), rest: peers) }
    private func dealt(_ chosen: Set<Int>, rest: [Int]) -> Partition {
        let order = rest.filter(chosen.contains).sorted {
            (cost.speeds[$1], $0) < (cost.speeds[$0], $1)
        }
        var groups = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in order.enumerated() {
            let (turn, place) = index.quotientAndRemainder(dividingBy: pipelines)
            groups[turn % 2 == 0 ? place : pipelines - 1 - place].append(peer)
        }
        groups[pipelines] = rest.filter { !chosen.contains($0) }
        return normal(groups)
    }
    /// Ascending groups; what is more than a pipeline can use becomes spare.
    private func normal(_ groups: Partition) -> Partition {
        var groups = groups
        let most = cost.givenStages ?? cost.model.unitCount
        for index in groups.indices.dropLast() where groups[index].count > most {
            let bySpeed = groups[index].sorted {
                (cost.speeds[$1], $0) < (cost.speeds[$0], $1)
            }
            groups[index] = Array(bySpeed.prefix(most))
            groups[pipelines] += bySpeed.dropFirst(most)
        }
        return groups.map { $0.sorted() }
    }
}

extension CostModel {
    /// All of `peers`, neighbours next to each other: the chain of nearest ones from the fastest; among more than a thousand the
    /// chain of regions, the fastest first in each.
    func chain(_ peers: [Int]) -> [Int] {
        func faster(_ a: Int, _ b: Int) -> Bool { (topology.hosts[b].flops, a) < (topology.hosts[a].flops, b) }
        if peers.count > 1024 {
            var members: [Int: [Int]] = [:]
            for peer in peers { members[topology.hosts[peer].region ?? -1, default: []].append(peer) }
            let regions = members.keys.sorted()
            let heads = regions.map { members[$0]?.min(by: faster) ?? 0 }
            var place: [Int: Int] = [:]
            for (index, head) in heads.enumerated() { place[head] = index }
            return nearest(heads).flatMap { head in
                (members[regions[place[head] ?? 0]] ?? []).sorted(by: faster)
            }
        }
        return nearest(peers)
    }
    private func nearest(_ peers: [Int]) -> [Int] {
        var rest = peers
        var order: [Int] = []
        while !rest.isEmpty {
            var pick = 0
            for i in rest.indices.dropFirst() {
                if let last = order.last {
                    if latency(last, rest[i]) < latency(last, rest[pick]) { pick = i }
                } else if topology.hosts[rest[i]].flops > topology.hosts[rest[pick]].flops {
                    pick = i
                }
            }
            order.append(rest.remove(at: pick))
        }
        return order
    }
}
