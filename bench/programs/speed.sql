-- Inserts, updates, joins, indexes, text; all in memory.
create table t1(a integer, b integer, c text);
begin;
insert into t1 with recursive n(x) as (select 1 union all select x + 1 from n where x < 120000)
  select x, (x * 7919) % 100003, 'row ' || x || ' ' || hex((x * 104729) % 1000003) from n;
commit;
create index i1 on t1(b);
create index i2 on t1(c);
create table t2(a integer primary key, b integer, c text);
insert into t2 select a, b, c || c from t1 order by c;
select count(*), sum(length(c)) from t1 where b between 1000 and 60000;
update t1 set c = c || 'x' where a % 3 = 0;
select count(*) from t1 join t2 on t1.b = t2.a where t1.c like '%7%';
select b % 100 as k, count(*), max(c), group_concat(a % 10) from t1 group by k order by k;
delete from t1 where a % 5 = 0;
select count(distinct substr(c, 1, 8)) from t2;
create table t3 as select t1.a, t2.c from t1 left join t2 on t2.b = t1.b limit 60000;
select count(*), sum(length(c)) from t3;
