public import Exchange
public import Messages
public import Primitives
import Training

extension GroupTerms {
    /// What every member goes by until the leader says otherwise.
    public init(round: Int, plan: PlacedPlan) {
        self.init(
            round: round, epoch: plan.epoch, version: 0, ranks: Array(plan.pipelines.indices), way: plan.exchangeWay)
    }

    /// In the terms of the exchange of `units`.
    public func order(_ plan: PlacedPlan, units: Range<Int>, parameters: JobParameters) -> GroupExchange.Order {
        let members = Array(plan.pipelines.indices)
        guard way.hasOwners else { return GroupExchange.Order(contributors: ranks, members: members) }
        let configuration = parameters.configuration(units: units, plan: plan)
        let layouts = units.map { configuration.chunkLayout(unit: $0) }
        return GroupExchange.Order(
            contributors: ranks, members: members,
            owners: zip(units, layouts).map { owners(plan, unit: $0, layout: $1, model: parameters.model) },
            aggregateLimits: layouts.map { layout in
                layout.chunks.map { layout.maximumBytes($0, codec: way.aggregateCodec) }
            })
    }

    /// The owner of each chunk of `unit`, by rank.
    public func owners(_ plan: PlacedPlan, unit: Int, layout: ChunkLayout, model: ModelShape) -> [Int] {
        var shares = plan.survey(ranks: ranks, model: model).shares(unit: unit, way: way).shares
        for (index, rank) in ranks.enumerated() where barred.contains(rank) && barred.count < ranks.count {
            shares[index] = 0
        }
        let sum = shares.reduce(0, +)
        let even = ranks.map { barred.contains($0) ? 0.0 : 1.0 }
        return ExchangeCost.owners(of: layout.sizes, ranks: ranks, shares: sum > 0 ? shares.map { $0 / sum } : even)
    }
}

extension PlacedPlan {
    /// Line of a peer that was not measured.
    private static let unmeasured = BitRate.megabits(100)

    /// What its exchanges cost over its lines as measured, among `ranks` (all).
    /// - Parameter latency: one way, of the slowest pair.
    public func survey(ranks: [Int]? = nil, model: ModelShape, latency: Duration = .zero) -> ExchangeSurvey {
        ExchangeSurvey(
            pipelines: (ranks ?? Array(pipelines.indices)).map { rank in
                pipelines[rank].stages.map { stage in
                    ExchangeSurvey.Holder(
                        units: stage.units, up: (stage.up ?? Self.unmeasured).bytesPerSecond,
                        down: (stage.down ?? Self.unmeasured).bytesPerSecond)
                }
            }, model: model, codec: exchangeCodec, usesRounds: mode == .rounds, latency: latency.inSeconds)
    }

    /// Adjacent units with equal holders.
    public func fragments(_ model: ModelShape) -> [Range<Int>] {
        var out: [Range<Int>] = []
        for unit in model.allUnits {
            if let last = out.last, holders(of: last.lowerBound) == holders(of: unit) {
                out[out.count - 1] = last.lowerBound..<unit + 1
            } else {
                out.append(unit..<unit + 1)
            }
        }
        return out
    }
}
