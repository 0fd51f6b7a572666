internal import Primitives
internal import Topologies

extension Campaign {
    /// Why nothing fits.
    func reason() -> PlanningError {
        let largest = peers.max { cost.topology.hosts[$0].memory < cost.topology.hosts[$1].memory } ?? peers[0]
        let offered = cost.topology.hosts[largest].memory
        let rounds = cost.job.innerSteps.value != 1 && cost.job.innerSteps != .auto
        if let fixed = cost.job.pipelines.value, fixed > peers.count {
            return .impossible(
                "\(fixed) pipelines are asked for, but only \(peers.count == 1 ? "1 peer is" : "\(peers.count) peers are") there. Ask for fewer."
            )
        }
        if let fixed = cost.job.pipelines.value, fixed > cost.job.virtualPipelines {
            return .impossible(
                "\(fixed) pipelines are asked for, but only \(cost.job.virtualPipelines) virtual pipelines are there to share. "
                    + "Ask for fewer, or set parallel.virtual_pipelines higher.")
        }
        for unit in cost.model.allUnits {
            let need = cost.leastMemory(unit..<unit + 1, rounds: rounds)
            if need > offered.bytes {
                return .unitTooLarge(
                    unit: unit, needs: ByteCount(need).description, peer: cost.topology.hosts[largest].name,
                    offers: offered.description)
            }
        }
        if cost.job.pipelines.value != nil || cost.job.stages.value != nil {
            return .impossible(
                "no \(cost.job.pipelines.value.map(String.init) ?? "number of") pipelines of "
                    + "\(cost.job.stages.value.map(String.init) ?? "any number of") stages fit these peers' memory. "
                    + "Set parallel.pipelines and parallel.stages to auto.")
        }
        let all = peers.reduce(ByteCount(0)) { $0 + cost.topology.hosts[$1].memory }
        return .modelTooLarge(
            needs: ByteCount(cost.leastMemory(cost.model.allUnits, rounds: rounds)).description,
            offered: all.description, peers: peers.count)
    }
}
