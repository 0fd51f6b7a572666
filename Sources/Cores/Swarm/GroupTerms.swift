import Exchange
import Primitives
import Training

/// Who exchanges a round, and how. Version 0 is every pipeline of the plan; the coordinator raises it when somebody is
/// left out, or an owner is not believed. With the plan it says who owns which chunk: everybody computes that alike.
struct GroupTerms: Hashable, Sendable {
    var round: Int
    /// Of the plan.
    var epoch: Int
    var version: Int
    /// Pipelines whose contributions are added, ascending.
    var ranks: [Int]
    var way: ExchangeWay
    /// Pipelines that own nothing, ascending.
    var barred: [Int] = []

    /// What every member goes by until the coordinator says otherwise.
    init(round: Int, plan: PlacedPlan) {
        self.init(
            round: round, epoch: plan.epoch, version: 0, ranks: Array(plan.pipelines.indices), way: plan.exchangeWay)
    }
    init(round: Int, epoch: Int, version: Int, ranks: [Int], way: ExchangeWay, barred: [Int] = []) {
        self.round = round
        self.epoch = epoch
        self.version = version
        self.ranks = ranks
        self.way = way
        self.barred = barred
    }

    /// Newer terms win: of a later round, plan or version.
    func isNewer(than other: GroupTerms?) -> Bool {
        guard let other else { return true }
        return (round, epoch, version) > (other.round, other.epoch, other.version)
    }

    /// In the terms of the exchange of `units`.
    func order(_ plan: PlacedPlan, units: Range<Int>, parameters: JobParameters) -> GroupExchange.Order {
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
    func owners(_ plan: PlacedPlan, unit: Int, layout: ChunkLayout, model: ModelShape) -> [Int] {
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
    func survey(ranks: [Int]? = nil, model: ModelShape, latency: Duration = .zero) -> ExchangeSurvey {
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
    func fragments(_ model: ModelShape) -> [Range<Int>] {
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
