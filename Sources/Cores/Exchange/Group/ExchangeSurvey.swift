public import Primitives

/// What each way of exchanging costs over the lines of pipelines: closed forms (`docs/COST.md`, “Exchange”), seconds. The planner
/// asks it beforehand, the coordinator when a plan is placed; both get the same answer for the same lines.
public struct ExchangeSurvey: Sendable {
    /// A stage: its units, and its line in bytes a second.
    public struct Holder: Sendable {
        public var units: Range<Int>
        public var up: Double
        public var down: Double
        public init(units: Range<Int>, up: Double, down: Double) {
            self.units = units
            self.up = up
            self.down = down
        }
    }
    /// By rank, each covering every unit.
    public var pipelines: [[Holder]]
    public var model: ModelShape
    public var codec: Codec
    /// H > 1.
    public var usesRounds: Bool
    /// One way, of the slowest pair, seconds.
    public var latency: Double

    public init(pipelines: [[Holder]], model: ModelShape, codec: Codec, usesRounds: Bool, latency: Double = 0) {
        self.pipelines = pipelines
        self.model = model
        self.codec = codec
        self.usesRounds = usesRounds
        self.latency = latency
    }

    /// Lines of the holders of `unit`, bytes a second: each line's share for this unit, by its part of the stage.
    private func lines(unit: Int) -> (up: [Double], down: [Double]) {
        var up: [Double] = []
        var down: [Double] = []
        for pipeline in pipelines {
            guard let stage = pipeline.first(where: { $0.units.contains(unit) }) else { continue }
            let part = Double(model.parameters(unit: unit)) / Double(model.parameters(units: stage.units))
            up.append(stage.up * part)
            down.append(stage.down * part)
        }
        return (up, down)
    }

    /// Owners' shares of a unit, in rank order, and what its exchange then takes.
    public func shares(unit: Int, way: ExchangeWay) -> (seconds: Double, shares: [Double]) {
        let values = Double(model.parameters(unit: unit))
        let lines = lines(unit: unit)
        return ExchangeCost.ownerShares(
            contribution: values * codec.bitsPerValue / 8, aggregate: values * way.aggregateCodec.bitsPerValue / 8,
            up: lines.up, down: lines.down)
    }

    /// The slowest unit of `units` tells the whole: a stage's line is divided among its units by their size, so that units with
    /// equal holders take equally long.
    public func seconds(_ way: ExchangeWay, units: Range<Int>) -> Double {
        guard pipelines.count > 1 else { return 0 }
        var slowest = 0.0
        var unit = units.lowerBound
        while unit < units.upperBound {
            if way.hasOwners {
                slowest = max(slowest, shares(unit: unit, way: way).seconds)
            } else {
                let lines = lines(unit: unit)
                let bytes = Double(model.parameters(unit: unit)) * codec.bitsPerValue / 8
                slowest = max(
                    slowest, ExchangeCost.allGatherSeconds(contribution: bytes, up: lines.up, down: lines.down))
            }
            let ends = pipelines.compactMap { stages in stages.first { $0.units.contains(unit) }?.units.upperBound }
            unit = max(unit + 1, ends.min() ?? units.upperBound)
        }
        return slowest + (way.hasOwners ? 2 : 1) * latency
    }

    /// The fastest way: owners where that saves a tenth of an all-gather; sums encoded anew where that saves a quarter more,
    /// and only as the contributions themselves are, at one byte a value or more, with rounds.
    public var cheapest: ExchangeWay {
        let all = 0..<model.unitCount
        return cheapest { seconds($0, units: all) }
    }
    private func cheapest(_ seconds: (ExchangeWay) -> Double) -> ExchangeWay {
        guard pipelines.count > 2 else { return .allGather }
        let gathering = seconds(.allGather)
        let scattering = seconds(.reduceScatter)
        var best = scattering < 0.9 * gathering ? ExchangeWay.reduceScatter : .allGather
        switch codec {
        case .bf16, .fp16, .int8:
            let encoded = ExchangeWay.owner(codec)
            if usesRounds, seconds(encoded) < 0.75 * min(gathering, scattering) { best = encoded }
        default: break
        }
        return best
    }

    /// For searches: the way, and its time relative to an all-gather's. Two units stand for all: the first of the stage that is
    /// slowest in an all-gather, and the first whose holders have the least room for sums. Latency is in the choice, not in the
    /// ratio.
    ///
    /// - Parameter way: nil for the cheapest.
    public func ratio(_ way: ExchangeWay?) -> (way: ExchangeWay, ratio: Double) {
        let units = tellingUnits
        func seconds(_ survey: ExchangeSurvey, _ way: ExchangeWay) -> Double {
            units.reduce(0) { max($0, survey.seconds(way, units: $1..<$1 + 1)) }
        }
        let chosen = way ?? cheapest { seconds(self, $0) }
        guard chosen.hasOwners else { return (chosen, 1) }
        var bare = self
        bare.latency = 0
        let gathering = seconds(bare, .allGather)
        return (chosen, gathering > 0 ? seconds(bare, chosen) / gathering : 1)
    }

    private var tellingUnits: [Int] {
        var slowest = (unit: 0, load: 0.0)
        /// Seconds a value of each stage, by pipeline.
        let loads = pipelines.map { pipeline in
            pipeline.map { stage in
                let load = Double(model.parameters(units: stage.units)) / min(stage.up, stage.down)
                if load > slowest.load { slowest = (stage.units.lowerBound, load) }
                return load
            }
        }
        var narrowest = (unit: slowest.unit, room: Double.infinity)
        var stages = pipelines.map { _ in 0 }
        var unit = 0
        while unit < model.unitCount {
            var (room, end) = (0.0, model.unitCount)
            for p in pipelines.indices {
                while stages[p] < pipelines[p].count - 1, pipelines[p][stages[p]].units.upperBound <= unit {
                    stages[p] += 1
                }
                room += 1 / loads[p][stages[p]]
                end = min(end, pipelines[p][stages[p]].units.upperBound)
            }
            if room < narrowest.room { narrowest = (unit, room) }
            unit = max(unit + 1, end)
        }
        return narrowest.unit == slowest.unit ? [slowest.unit] : [slowest.unit, narrowest.unit]
    }
}
