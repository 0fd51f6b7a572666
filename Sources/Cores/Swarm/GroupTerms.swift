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
        var shares = ExchangeChoice(plan, ranks: ranks, model: model).shares(unit: unit, way: way).shares
        for (index, rank) in ranks.enumerated() where barred.contains(rank) && barred.count < ranks.count {
            shares[index] = 0
        }
        let sum = shares.reduce(0, +)
        let even = ranks.map { barred.contains($0) ? 0.0 : 1.0 }
        return ExchangeCost.owners(of: layout.sizes, ranks: ranks, shares: sum > 0 ? shares.map { $0 / sum } : even)
    }
}

/// What each way costs over the lines of a plan: closed forms (`docs/COST.md`, “Exchange”), seconds.
struct ExchangeChoice {
    let plan: PlacedPlan
    let ranks: [Int]
    let model: ModelShape
    /// One way, of the slowest pair.
    var latency = Duration.zero

    init(_ plan: PlacedPlan, ranks: [Int]? = nil, model: ModelShape, latency: Duration = .zero) {
        self.plan = plan
        self.ranks = ranks ?? Array(plan.pipelines.indices)
        self.model = model
        self.latency = latency
    }

    /// Line of a peer that was not measured.
    static let unmeasured = BitRate.megabits(100)

    /// Lines of the holders of `unit`, bytes a second: each line's share for this unit, by its part of the stage.
    private func lines(unit: Int) -> (up: [Double], down: [Double]) {
        var up: [Double] = []
        var down: [Double] = []
        for rank in ranks {
            let stage = plan.pipelines[rank].stages.first { $0.units.contains(unit) }!
            let part = Double(model.parameters(unit: unit)) / Double(model.parameters(units: stage.units))
            up.append((stage.up ?? Self.unmeasured).bytesPerSecond * part)
            down.append((stage.down ?? Self.unmeasured).bytesPerSecond * part)
        }
        return (up, down)
    }

    func shares(unit: Int, way: ExchangeWay) -> (seconds: Double, shares: [Double]) {
        let values = Double(model.parameters(unit: unit))
        let lines = lines(unit: unit)
        return ExchangeCost.ownerShares(
            contribution: values * plan.exchangeCodec.bitsPerValue / 8,
            aggregate: values * way.aggregateCodec.bitsPerValue / 8, up: lines.up, down: lines.down)
    }

    /// The slowest unit of `units` tells the whole: a stage's line is divided among its units by their size.
    func seconds(_ way: ExchangeWay, units: Range<Int>) -> Double {
        guard ranks.count > 1 else { return 0 }
        let slowest = units.map { unit in
            guard !way.hasOwners else { return shares(unit: unit, way: way).seconds }
            let lines = lines(unit: unit)
            return ExchangeCost.allGatherSeconds(
                contribution: Double(model.parameters(unit: unit)) * plan.exchangeCodec.bitsPerValue / 8, up: lines.up,
                down: lines.down)
        }.max()!
        return slowest + (way.hasOwners ? 2 : 1) * latency.inSeconds
    }

    /// The fastest way: owners where that saves a tenth of an all-gather; sums encoded anew where that saves a quarter more,
    /// and only as the contributions themselves are, at one byte a value or more, with rounds.
    var cheapest: ExchangeWay {
        let all = 0..<model.unitCount
        let gathering = seconds(.allGather, units: all)
        let scattering = seconds(.reduceScatter, units: all)
        var best = scattering < 0.9 * gathering ? ExchangeWay.reduceScatter : .allGather
        switch plan.exchangeCodec {
        case .bf16, .fp16, .int8:
            let encoded = ExchangeWay.owner(plan.exchangeCodec)
            let exact = min(gathering, scattering)
            if plan.mode == .rounds, ranks.count > 2, seconds(encoded, units: all) < 0.75 * exact { best = encoded }
        default: break
        }
        return ranks.count > 2 ? best : .allGather
    }

    /// Adjacent units with equal holders.
    var fragments: [Range<Int>] {
        var out: [Range<Int>] = []
        for unit in model.allUnits {
            if let last = out.last, plan.holders(of: last.lowerBound) == plan.holders(of: unit) {
                out[out.count - 1] = last.lowerBound..<unit + 1
            } else {
                out.append(unit..<unit + 1)
            }
        }
        return out
    }
}
