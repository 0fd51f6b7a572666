public import Exchange
public import Messages
public import Primitives
public import Training

/// What a manifest fixes for the arithmetic: everything that decides the bits, besides the plan's mapping.
public struct JobParameters: Hashable, Sendable {
    public var name: String
    public var model: ModelShape
    /// V, m and T; k comes with the plan.
    public var virtualPipelines: Int
    public var microBatch: Int
    /// What the smallest batch trains on.
    public var tokens: Int
    /// B_c where the planner chooses k.
    public var criticalBatch: CriticalBatch?
    public var optimizer: InnerOptimizer
    public var seed: UInt64
    public var validationFraction: Double
    public var checkpointRounds: Int
    /// How many machines carry the record; nil: as many as what is seen of the pool asks for.
    public var electors: Int? = 1
    /// Whose keys may found it anew beside the root key.
    public var recovery: RecoveryKeys?
    /// Whose keys may collect the result beside the launcher's; empty: nobody's.
    public var collectors: [PeerID] = []
    /// Every so many rounds each stage writes the round's start to its own disk.
    public var localRounds = 2
    /// On the disks of how many peers that do not hold it each unit is, too, as of the rounds of which there may be checkpoints.
    public var copies = 0
    /// What becomes of a job whose loss or gradient is not finite.
    public var onDivergence = OnDivergence.stop
    /// Given by the job; nil: the cheapest, chosen with each plan.
    public var exchangeWay: ExchangeWay?
    /// Where the data are a file of tokens: how many; nil: they are a text, a token a byte.
    public var dataTokens: Int?
    /// Where the data are a mixture: its sources; empty: they are one.
    public var dataParts: [DataPart] = []
    /// Contents of the units that the job begins with; empty: they are drawn from the seed.
    public var initialUnits: [Digest256] = []

    public init(
        name: String, model: ModelShape, virtualPipelines: Int, microBatch: Int, tokens: Int, optimizer: InnerOptimizer,
        seed: UInt64, validationFraction: Double, checkpointRounds: Int
    ) {
        self.name = name
        self.model = model
        self.virtualPipelines = virtualPipelines
        self.microBatch = microBatch
        self.tokens = tokens
        self.optimizer = optimizer
        self.seed = seed
        self.validationFraction = validationFraction
        self.checkpointRounds = checkpointRounds
    }

    public func geometry(microBatchesPerVirtual k: Int) -> BatchGeometry {
        BatchGeometry(
            virtualPipelines: virtualPipelines, microBatch: microBatch, microBatchesPerVirtual: k,
            context: model.context)
    }

    /// What the job trains on with this k: a larger batch needs more for the same loss.
    public func tokens(microBatchesPerVirtual k: Int) -> Int {
        guard let criticalBatch else { return tokens }
        return criticalBatch.budget(
            tokens, batch: geometry(microBatchesPerVirtual: k).batchTokens,
            reference: geometry(microBatchesPerVirtual: 1).batchTokens)
    }
    private func optimizer(microBatchesPerVirtual k: Int) -> InnerOptimizer {
        var out = optimizer
        out.totalTokens = tokens(microBatchesPerVirtual: k)
        return out
    }

    public func configuration(units: Range<Int>, plan: PlacedPlan, recompute: Bool = false) -> StageConfiguration {
        var out = StageConfiguration(
            model: model, units: units, geometry: geometry(microBatchesPerVirtual: plan.microBatchesPerVirtual),
            seed: seed,
            optimizer: optimizer(microBatchesPerVirtual: plan.microBatchesPerVirtual), outer: plan.outer,
            mode: plan.mode, exchangeCodec: plan.exchangeCodec,
            activationCodec: plan.activationCodec, validationFraction: validationFraction,
            recompute: recompute, dataTokens: dataTokens)
        out.dataParts = dataParts
        return out
    }

    /// Some blocks of the model as a middle stage, for a member to see how fast it is at this job's work.
    ///
    /// Several, so that caches hold no more than they will. Of a large model it is one, and a micro-batch one sequence, and shorter, so
    /// that a forward and backward is no more than about `most` operations.
    ///
    /// - Parameter parameters: more blocks than one may have no more than these.
    public func rehearsal(most: Double = 1e10, parameters: Int) -> StageConfiguration {
        var model = model
        var geometry = geometry(microBatchesPerVirtual: 1)
        var units = 1..<2
        for end in 3..<max(3, min(model.layers + 2, Self.rehearsedBlocks + 2)) {
            let more = 1..<end
            guard 3 * model.forwardFLOPs(units: more, sequences: geometry.microBatch) <= most,
                model.parameters(units: more) <= parameters
            else { break }
            units = more
        }
        func operations() -> Double { 3 * model.forwardFLOPs(units: units, sequences: geometry.microBatch) }
        while operations() > most, geometry.microBatch > 1 { geometry.microBatch = (geometry.microBatch + 1) / 2 }
        while operations() > most, model.context > 128 { model.context = max(128, model.context / 2) }
        geometry.context = model.context
        geometry.virtualPipelines = 1
        geometry.microBatchesPerVirtual = 1 << 20
        return StageConfiguration(
            model: model, units: units, geometry: geometry, seed: seed, optimizer: optimizer,
            mode: optimizer.recipe.adapters == nil ? .everyStep : .rounds, exchangeCodec: .fp32,
            activationCodec: .fp32, validationFraction: validationFraction)
    }

    private static let rehearsedBlocks = 4

    public enum OnDivergence: Hashable, Sendable {
        /// The job ends, and says why.
        case stop
        /// One more try from the last good round, at half the learning rate; then it ends.
        case retreat
    }

    /// Whether several machines carry the record, or may come to: members then act on certified entries only.
    public var isCarriedByMany: Bool { electors != 1 }

    /// Whether stages write the start of a round to their disks: those that are written are the same everywhere, so that they fit
    /// together. Round 0 follows from the manifest. Those of which there may be checkpoints are among them, for Adam's moments.
    public func keepsStart(of round: Int) -> Bool {
        round > 0 && (round % localRounds == 0 || checkpointRounds > 0 && round % checkpointRounds == 0)
    }

    /// Whether units are copied to peers that do not hold them as of the start of this round.
    public func copiesStart(of round: Int) -> Bool {
        copies > 0 && round > 0 && checkpointRounds > 0 && round % checkpointRounds == 0
    }

    /// What round 0 begins with where that is not drawn from the seed; nil where it is.
    public var initialRoots: [Int: UnitRoots]? {
        guard !initialUnits.isEmpty else { return nil }
        var out: [Int: UnitRoots] = [:]
        for (unit, content) in initialUnits.enumerated() { out[unit] = UnitRoots(unit: unit, parameters: content) }
        return out
    }
}
