# Strings, hashes, closures, sorts, a fork with a pipe, threads where this perl has them: prints sums of what it did.
use strict;
use warnings;
use Config;

my $seed = 1;
sub next_number { return $seed = ($seed * 1103515245 + 12345) % 2147483648 }

my %count;
for my $i (1 .. 60_000) {
    my $word = join '', map { chr(97 + next_number() % 26) } 1 .. 2 + next_number() % 3;
    $count{$word}++;
    push @{ $count{"list-" . length $word} }, $word if $i % 7 == 0;
}
my @words = sort { ($count{$b} <=> $count{$a}) || ($a cmp $b) } grep { !/^list-/ } keys %count;
print scalar(@words), " words, first @words[0 .. 4]\n";

my $text = join ' ', @words;
my $changed = ($text =~ s/(\w)(\w)\b/$2$1/g);
my %ends;
$ends{$1}++ while $text =~ /(\w{2})\b/g;
print "$changed changed, ", scalar(keys %ends), " ends\n";

pipe my $in, my $out or die;
my $child = fork // die;
if ($child == 0) {
    close $in;
    print {$out} "$_\n" for reverse @words;
    close $out;
    exit 7;
}
close $out;
my $bytes = 0;
$bytes += length while <$in>;
waitpid $child, 0;
print "$bytes bytes from a child, status ", $? >> 8, "\n";

if ($Config{useithreads}) {
    require threads;
    my @threads = map {
        my $n = $_;
        threads->create(sub { my %mine = map { $_ => $n } @words; return scalar keys %mine });
    } 1 .. 3;
    my $sum = 0;
    $sum += $_->join for @threads;
    print "$sum keys in threads\n";
}
