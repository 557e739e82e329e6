//! The rules of the format, each with a stable name: what a broken one is called by reader and checker.

/// How bad a broken rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something that drivers live with: a copy that lags behind, space that is lost, a mark to be looked at.
    Note,
    /// Files or names are lost or not found, or a driver may refuse the volume.
    Error,
}

/// Makes the enum and its two texts from one table, so that they cannot get out of step.
macro_rules! rules {
    ($($variant:ident $name:literal $severity:ident $text:literal;)*) => {
        /// A rule of the format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] $variant,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its stable name, for programs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it is about, for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// How bad it is when broken.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$variant => Severity::$severity,)*
                }
            }
        }
    };
}

rules! {
    BootMark "boot-mark" Error "mark of the boot sector";
    BootName "boot-name" Error "name of the file system in the boot sector";
    BootSectorSize "boot-sector-size" Error "sector size";
    BootClusterSize "boot-cluster-size" Error "cluster size";
    BootSectors "boot-sectors" Error "number of sectors";
    BootMftPlace "boot-mft-place" Error "first cluster of $MFT";
    BootMirrorPlace "boot-mirror-place" Error "first cluster of $MFTMirr";
    BootRecordSize "boot-record-size" Error "size of file records";
    BootIndexSize "boot-index-size" Error "size of index blocks";
    UpdateCount "update-count" Error "length of the update sequence";
    UpdatePlace "update-place" Error "place of the update sequence";
    UpdateNumber "update-number" Error "update sequence";
    RecordMagic "record-magic" Error "mark of a file record";
    RecordAllocated "record-allocated" Error "size of the record";
    RecordFirst "record-first" Error "place of the first attribute";
    RecordUsed "record-used" Error "used bytes of the record";
    RecordEnd "record-end" Error "end of the record";
    AttributeLength "attribute-length" Error "length of the attribute";
    AttributeForm "attribute-form" Error "form of the attribute";
    AttributeName "attribute-name" Error "name of the attribute";
    AttributeValue "attribute-value" Error "value of the attribute";
    VcnRange "vcn-range" Error "first and last cluster";
    VcnGap "vcn-gap" Error "first cluster of a part";
    CompressionUnit "compression-unit" Error "unit of compression";
    RunsPlace "runs-place" Error "place of the runs";
    RunsEnd "runs-end" Error "end of the runs";
    RunHead "run-head" Error "head of a run";
    RunLength "run-length" Error "length of a run";
    RunHole "run-hole" Error "hole";
    RunPlace "run-place" Error "place of a run";
    RunsTotal "runs-total" Error "clusters of the runs";
    ListEntry "list-entry" Error "entry of the attribute list";
    ListSize "list-size" Error "attribute list";
    ListTarget "list-target" Error "target of the attribute list";
    ListRecord "list-record" Error "record of the attribute list";
    ListMissing "list-missing" Error "attributes in the list";
    IndexRoot "index-root" Error "root of the index";
    IndexBlockSize "index-block-size" Error "block size of the index";
    IndexBlockStep "index-block-step" Error "block numbers of the index";
    IndexBlocks "index-blocks" Error "blocks of the index";
    IndexNode "index-node" Error "head of an index node";
    IndexAllocated "index-allocated" Error "allocated bytes of an index node";
    IndexDepth "index-depth" Error "depth of the index";
    IndexUsed "index-used" Error "closing entry of an index node";
    IndexEnd "index-end" Error "end of an index node";
    IndexEntryLength "index-entry-length" Error "length of an index entry";
    IndexEntryFlags "index-entry-flags" Error "flags of an index entry";
    IndexKey "index-key" Error "key of an index entry";
    IndexData "index-data" Error "data of an index entry";
    IndexChild "index-child" Error "block below an index entry";
    IndexTwice "index-twice" Error "block below an index entry";
    IndexBitmap "index-bitmap" Error "bitmap of the index";
    IndexBitmapSize "index-bitmap-size" Error "size of the index's bitmap";
    IndexMagic "index-magic" Error "mark of an index block";
    IndexVcn "index-vcn" Error "number of an index block";
    IndexLeak "index-leak" Error "bitmap of the index";
    BootCopy "boot-copy" Error "copy of the boot sector";
    BootZeros "boot-zeros" Note "zeros of the boot sector";
    BootMedia "boot-media" Note "kind of medium in the boot sector";
    BootJump "boot-jump" Note "first bytes of the boot sector";
    BootDrive "boot-drive" Note "drive in the boot sector";
    BootChecksum "boot-checksum" Note "checksum of the boot sector";
    BootSlack "boot-slack" Note "number of sectors";
    MftRecord "mft-record" Error "record of the MFT";
    MftSize "mft-size" Error "size of the MFT";
    MftBitmap "mft-bitmap" Error "bitmap of the MFT";
    MftBitmapSize "mft-bitmap-size" Error "size of the MFT's bitmap";
    Mirror "mirror" Error "copy of the first records";
    RecordNumber "record-number" Error "number of the record";
    RecordSequence "record-sequence" Error "sequence number of the record";
    RecordFlags "record-flags" Error "flags of the record";
    ExtensionLost "extension-lost" Error "extension record";
    AttributeType "attribute-type" Error "type of the attribute";
    AttributeOrder "attribute-order" Error "order of attributes";
    AttributeSize "attribute-size" Error "size of the value";
    AttributeFlags "attribute-flags" Error "flags of the attribute";
    AttributeTwice "attribute-twice" Error "attributes of one name";
    InstanceTwice "instance-twice" Error "number of the attribute in its record";
    InstanceNext "instance-next" Error "number of the attribute in its record";
    IndexedFlag "indexed-flag" Error "mark of an indexed value";
    Allocated "allocated" Error "allocated size";
    Size "size" Error "size";
    Initialized "initialized" Error "initialized size";
    OnDisk "on-disk" Error "bytes without holes";
    SparseUnit "sparse-unit" Note "unit of a sparse stream";
    CompressedUnit "compressed-unit" Error "unit of a compressed stream";
    CompressedStream "compressed-stream" Error "bytes of a compressed stream";
    ClusterTwice "cluster-twice" Error "clusters of two streams";
    BitmapNotMarked "bitmap-not-marked" Error "clusters in $Bitmap";
    BitmapLeak "bitmap-leak" Note "clusters in $Bitmap";
    BitmapEnd "bitmap-end" Note "end of $Bitmap";
    BitmapSize "bitmap-size" Error "size of $Bitmap";
    NoInformation "no-information" Error "information of the file";
    NoName "no-name" Error "name of the file";
    NoData "no-data" Error "data of the file";
    LinkCount "link-count" Error "number of links";
    DirectoryFlag "directory-flag" Error "mark of directories";
    ViewFlag "view-flag" Error "mark of other indexes";
    FileBits "file-bits" Error "attribute bits";
    ReparseBit "reparse-bit" Error "attribute bit of reparse points";
    SparseBit "sparse-bit" Error "attribute bit of sparse files";
    CompressedBit "compressed-bit" Error "attribute bit of compressed files";
    Time "time" Error "time";
    InformationRest "information-rest" Note "further information of the file";
    Name "name" Error "name";
    NamePair "name-pair" Error "long and short names";
    NameParent "name-parent" Error "directory of a name";
    NameUnlisted "name-unlisted" Error "name in its directory";
    Growth "growth" Note "growth of the volume that was not finished";
    NameClash "name-clash" Error "names that differ in case";
    NameTimes "name-times" Note "times beside a name";
    NameSizes "name-sizes" Note "sizes beside a name";
    NameBits "name-bits" Note "attribute bits beside a name";
    NameExtra "name-extra" Note "reparse tag or size of extended attributes beside a name";
    Cycle "cycle" Error "directories";
    EntryParent "entry-parent" Error "directory of an index entry";
    EntryTarget "entry-target" Error "file of an index entry";
    EntryName "entry-name" Error "name of an index entry";
    EntryTwice "entry-twice" Error "index entries of one name";
    EntryCopy "entry-copy" Note "copy in an index entry";
    IndexOrder "index-order" Error "order of the index";
    IndexType "index-type" Error "type of the indexed attribute";
    IndexCollation "index-collation" Error "order rule of the index";
    IndexRead "index-read" Error "blocks of the index";
    SecurityNone "security-none" Error "security descriptor";
    SecurityDangling "security-dangling" Error "security id";
    SecurityUnused "security-unused" Note "security descriptors";
    SecurityEntry "security-entry" Error "index entry of a security descriptor";
    SecurityUnlisted "security-unlisted" Error "index of security descriptors";
    Descriptor "descriptor" Error "security descriptor";
    SdsStream "sds-stream" Error "stream of security descriptors";
    SdsOffset "sds-offset" Error "offset of a security descriptor";
    SdsLength "sds-length" Error "length of a security descriptor";
    SdsHash "sds-hash" Error "hash of a security descriptor";
    SdsId "sds-id" Error "id of a security descriptor";
    SdsCopy "sds-copy" Error "copy of security descriptors";
    ObjectIdEntry "object-id-entry" Error "index entry of an object id";
    ObjectIdTwice "object-id-twice" Error "object id of two files";
    ObjectIdUnlisted "object-id-unlisted" Error "object id in the index";
    ReparseEntry "reparse-entry" Error "index entry of a reparse point";
    ReparseUnlisted "reparse-unlisted" Error "reparse point in the index";
    ReparseLength "reparse-length" Error "reparse data";
    ReparseLink "reparse-link" Error "target of a link";
    QuotaOwner "quota-owner" Error "owner of a quota";
    QuotaEntry "quota-entry" Error "entry of quotas";
    EaPair "ea-pair" Error "extended attributes";
    EaChain "ea-chain" Error "list of extended attributes";
    EaInformation "ea-information" Error "sizes of extended attributes";
    WofData "wof-data" Error "data of a compressed file";
    WofHole "wof-hole" Error "plain data of a compressed file";
    WofStream "wof-stream" Error "stream of a compressed file";
    SystemFile "system-file" Error "file of the system";
    SystemName "system-name" Error "name of a file of the system";
    SystemSequence "system-sequence" Note "sequence number of a file of the system";
    SystemPlace "system-place" Error "place of a file of the system";
    SystemSize "system-size" Error "size of a file of the system";
    UpCaseSize "upcase-size" Error "size of $UpCase";
    UpCaseInfo "upcase-info" Error "checksum of $UpCase";
    UpCaseTable "upcase-table" Note "capitals of $UpCase";
    UpCaseBroken "upcase-broken" Error "capitals of $UpCase";
    VolumeVersion "volume-version" Error "version of the volume";
    VolumeFlags "volume-flags" Error "flags of the volume";
    VolumeDirty "volume-dirty" Note "mark of the volume";
    VolumePending "volume-pending" Note "flags of the volume";
    LogSize "log-size" Error "size of the log";
    LogPending "log-pending" Note "state of the log";
    LogUnknown "log-unknown" Error "state of the log";
    Hibernated "hibernated" Note "hibernation file";
    Definition "definition" Error "definition of a type in $AttrDef";
    DefinitionLimits "definition-limits" Note "sizes of a type in $AttrDef";
    BadClusters "bad-clusters" Error "list of damaged clusters";
    BadClusterFound "bad-clusters-found" Note "damaged clusters";
    Unreadable "unreadable" Error "bytes of a stream";
    EncryptedBit "encrypted-bit" Error "attribute bit of encrypted files";
    StreamBits "stream-bits" Note "attribute bit of a stream";
    AttributeGap "attribute-gap" Note "layout of the attribute";
    RunForm "run-form" Note "form of the runs";
}
